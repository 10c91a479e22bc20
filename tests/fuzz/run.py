"""Fuzzes Intake (bytes to one call) and the masker of event streams.

Guided by coverage where atheris is installed (`.venv/bin/pip install atheris`), by outcomes alone where it is not.
Ends with status 1 at the first input over which something is raised, read in two ways, let out, or masked otherwise
when it is cut otherwise; the input is kept in a file, in hex.
"""

import argparse
import itertools
import json
import os
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from typing import Any, Final

from tests.fuzz import targets
from tests.fuzz.mutation import MESSAGES, STREAMS, mutated
from tests.fuzz.passing import DENYING, Passing, patience
from tests.fuzz.session import Session, quiet
from tests.unit.house import House

CRASHES: Final = Path("fuzz-crashes")
LONGEST: Final = 4096  # bytes of an input
EVENLY: Final = b"\x33\x66\x99\xcc"  # a stream's cuts
SEEDS: Final = [*(b"\0" + message for message in MESSAGES), *(b"\1" + EVENLY + stream for stream in STREAMS)]


def both_targets(chain: Passing) -> dict[str, targets.Target]:
    """Intake and the masker, on the stages of a real chain."""
    return {
        "intake": partial(targets.intake, lambda body, fields: chain.read(chain.flow(body, fields))),
        "masker": partial(targets.masker, chain.masks),
    }


def by_outcomes(running: Session, seed: int) -> None:
    """Changes inputs at random, each target in its turn, and keeps those that lead to something new."""
    chance = random.Random(seed)  # noqa: S311 (no secret: a run can be had again)
    kept: dict[int, list[bytes]] = {0: [], 1: []}
    for data in SEEDS:
        running.run(data)
        kept[data[0]].append(data[1:])
    for turn in itertools.cycle(kept):
        if running.over:
            return
        data = mutated(chance, chance.choice(kept[turn]), kept[turn])[:LONGEST]
        if running.run(bytes([turn]) + data):
            kept[turn].append(data)


def by_coverage(running: Session, seed: int, atheris: Any, corpus: Path, done: Callable[[], object]) -> None:
    """Lets atheris choose, which never returns: `done` is called at the end, and must end the process."""
    corpus.mkdir()
    for number, data in enumerate(SEEDS):
        (corpus / str(number)).write_bytes(data)

    def one(data: bytes) -> None:
        running.run(data)
        if running.over:
            done()

    def changed(data: bytes, most: int, number: int) -> bytes:
        if number % 3 == 0:
            return bytes(atheris.Mutate(data, most))
        return mutated(random.Random(number), data, SEEDS)[:most]  # noqa: S311 (as above)

    words = ["fuzz", f"-max_len={LONGEST}", f"-seed={seed or 1}", "-verbosity=0", str(corpus)]  # to it, 0 is no seed
    atheris.Setup(words, one, custom_mutator=changed)
    atheris.Fuzz()


def main(words: Sequence[str], atheris: Any = None) -> int:
    """Runs, and prints what it showed; gives the exit status."""
    parser = argparse.ArgumentParser(
        prog="fuzz",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="Example: scripts/fuzz --seconds 60 --json",
    )
    parser.add_argument("--seconds", type=float, default=300, help="how long (default 300)")
    parser.add_argument("--seed", type=int, help="begin with this number, for the same inputs as another run")
    parser.add_argument("--plain", action="store_true", help="do without atheris")
    parser.add_argument("--crashes", type=Path, default=CRASHES, help=f"where the input goes (default {CRASHES})")
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run the input in this file, and nothing else")
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args(words)
    seed = random.randrange(1, 1 << 31) if asked.seed is None else asked.seed  # noqa: S311 (as above)
    quiet()
    with ExitStack() as opened:
        opened.enter_context(patience())
        home = Path(opened.enter_context(tempfile.TemporaryDirectory(prefix="sod-fuzz-")))
        chain = opened.enter_context(closing(Passing(House(home, rules=DENYING))))
        running = Session(both_targets(chain), asked.seconds, asked.crashes)
        tell = partial(_tell, running, seed, as_json=asked.json)

        def leave() -> None:
            status = tell()
            opened.close()
            os._exit(status)  # libFuzzer would call an exit a crash

        if asked.replay:
            running.run(bytes.fromhex(asked.replay.read_text()))
        elif atheris is None:
            by_outcomes(running, seed)
        else:
            by_coverage(running, seed, atheris, home / "corpus", leave)
        return tell()


def _tell(running: Session, seed: int, *, as_json: bool) -> int:
    report = running.report() | {"seed": seed}
    crash = report["crash"]
    lines = [
        f"{running.runs.total()} inputs in {report['seconds']:.0f} s (seed {seed}): {report['runs']}",
        f"{report['outcomes']} different outcomes; the slowest input took {report['slowest'] * 1000:.0f} ms of the CPU",
        f"{crash['target']}: {crash['error']}\nThe input is in {crash['file']}" if crash else "nothing broke",
    ]
    sys.stdout.write((json.dumps(report) if as_json else "\n".join(lines)) + "\n")
    sys.stdout.flush()
    return 1 if crash else 0
