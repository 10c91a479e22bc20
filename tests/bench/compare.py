"""Compares the full chain with stock mitmdump, in turn, in one run: `scripts/bench`."""

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.bench.contenders import Field, field
from tests.bench.figures import Outcome, report
from tests.bench.load import Figures, run
from tests.bench.tokens import measure_tokens
from tests.bench.workloads import DEFAULT, EVENTS, Workload

WARM_UP = 0.4  # seconds


def measure(workloads: Sequence[Workload], rounds: int, seconds: float, connections: int) -> list[Outcome]:
    """Runs every contender with every workload once a round, in turn: a machine that drifts drifts for all."""
    figures: dict[Workload, dict[str, list[Figures]]] = {workload: {} for workload in workloads}
    with tempfile.TemporaryDirectory(prefix="sod-bench-") as folder, field(Path(folder)) as running:
        for workload in workloads:
            _turn(running, workload, WARM_UP, connections)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for workload in workloads:
                for name, figure in _turn(running, workload, seconds, connections).items():
                    figures[workload].setdefault(name, []).append(figure)
    return [Outcome(workload.title, found) for workload, found in figures.items()]


def _turn(running: Field, workload: Workload, seconds: float, connections: int) -> dict[str, Figures]:
    return {
        name: run(
            contender.port,
            workload.request(contender.target, running.upstream, running.token),
            connections=connections,
            seconds=seconds,
        )
        for name, contender in running.contenders.items()
    }


def main() -> None:
    """Prints a table and the ratios of each workload, or JSON."""
    parser = argparse.ArgumentParser(
        prog="bench",
        description=__doc__,
        epilog="Example: scripts/bench --sizes 1KB events --rounds 5 --json. With everything left as it is, it takes "
        "about three minutes.",
    )
    what = f"bodies, as {DEFAULT[0]}; {EVENTS}: 1 KB, answered with an event stream (default: {' '.join(DEFAULT)})"
    parser.add_argument("--sizes", type=Workload.named, nargs="+", metavar="SIZE", help=what)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.5, help="of each run (default 1.5)")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    workloads = list(dict.fromkeys(asked.sizes or map(Workload.named, DEFAULT)))
    tokens = measure_tokens()
    outcomes = measure(workloads, asked.rounds, asked.seconds, asked.connections)
    if asked.json:
        print(json.dumps(report(outcomes, tokens)))
    else:
        print("\n\n".join([*(outcome.table(asked.connections) for outcome in outcomes), tokens.line()]))


if __name__ == "__main__":
    main()
