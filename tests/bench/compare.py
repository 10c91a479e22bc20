"""Compares the full chain with stock mitmdump, in turn, in one run: `scripts/bench`."""

import argparse
import datetime as dt
import json
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path

from tests.bench.load import Figures, run
from tests.world.gateway import MITMDUMP, Gateway
from tests.world.issuer import Issuer
from tests.world.policies import default_policy
from tests.world.process import Process, free_port

MODES = ("reverse", "regular")


def request(target: str, upstream_port: int, token: str, size: int = 1024) -> bytes:
    """One `tools/call` whose body has `size` bytes, as it goes over the wire."""
    words = "which customers in the northern region have open orders this month "
    blank = size - len(_call(""))
    body = _call((words * (blank // len(words) + 1))[:blank])
    head = (
        f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{upstream_port}\r\nContent-Type: application/json\r\n"
        f"Accept: application/json, text/event-stream\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _call(query: str) -> bytes:
    params = {"name": "search", "arguments": {"query": query, "limit": 10, "fields": ["name", "city"]}}
    return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


@contextmanager
def contenders(folder: Path) -> Iterator[dict[str, tuple[int, bytes]]]:
    """Gives port and request of everything that is compared, all running at once and all but one idle."""
    upstream, issuer = free_port(), Issuer(folder / "issuer")
    url = f"http://127.0.0.1:{upstream}"
    token = issuer.token("alice", groups=["mcp-users"], email="alice@example.com", lifetime=3600)
    found: dict[str, tuple[int, bytes]] = {"direct": (upstream, request("/mcp", upstream, token))}
    with ExitStack() as running:
        command = [sys.executable, "-m", "tests.bench.upstream", str(upstream)]
        running.enter_context(Process(command, folder / "upstream.log", ports=[upstream]))
        for mode in MODES:
            word = f"reverse:{url}" if mode == "reverse" else "regular"
            target = "/mcp" if mode == "reverse" else f"{url}/mcp"
            port = free_port()
            stock: list[str | Path] = [
                MITMDUMP,
                "--mode",
                word,
                "--listen-host",
                "127.0.0.1",
                "--listen-port",
                str(port),
            ]
            stock += ["--set", f"confdir={folder / 'stock'}"]
            running.enter_context(Process(stock, folder / f"stock-{mode}.log", ports=[port]))
            found[f"stock {mode}"] = (port, request(target, upstream, token))
            policy = default_policy(issuer, f"{url}/mcp", hold="45s")
            gateway = running.enter_context(Gateway(folder / f"chain-{mode}", policy, mode=word))
            found[f"chain {mode}"] = (gateway.port, request(target, upstream, token))
        yield found


def measure(rounds: int, seconds: float, connections: int) -> dict[str, list[Figures]]:
    """Runs every contender once a round, in turn, so that a machine that drifts drifts for all."""
    figures: dict[str, list[Figures]] = {}
    with tempfile.TemporaryDirectory(prefix="sod-bench-") as folder, contenders(Path(folder)) as running:
        for port, sent in running.values():
            run(port, sent, connections=connections, seconds=0.5)
        for number in range(rounds):
            print(f"round {number + 1} of {rounds}", file=sys.stderr)
            for name, (port, sent) in running.items():
                figures.setdefault(name, []).append(run(port, sent, connections=connections, seconds=seconds))
    return figures


def ratios(figures: dict[str, list[Figures]], mode: str) -> list[float]:
    """The chain's rate over stock's, round by round."""
    pairs = zip(figures[f"chain {mode}"], figures[f"stock {mode}"], strict=True)
    return [chain.rate / stock.rate for chain, stock in pairs]


def main() -> None:
    """Prints a table and the ratios, or JSON."""
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, epilog="Example: scripts/bench --rounds 5 --json"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="of each run (default 3)")
    parser.add_argument("--connections", type=int, default=8)
    parser.add_argument("--json", action="store_true")
    asked = parser.parse_args()
    figures = measure(asked.rounds, asked.seconds, asked.connections)
    middle = {name: Figures(*(statistics.median(getattr(f, part) for f in found) for part in ("rate", "p50", "p99")))
              for name, found in figures.items()}  # fmt: skip
    ratio = {mode: statistics.median(ratios(figures, mode)) for mode in MODES}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, Python {platform.python_version()}"
    today = dt.datetime.now(dt.UTC).date().isoformat()
    if asked.json:
        runs = {name: asdict(figure) for name, figure in middle.items()}
        print(json.dumps({"date": today, "machine": machine, "medians": runs, "ratio": ratio}))
        return
    print(f"1 KB tools/call, {asked.connections} connections, medians of {asked.rounds} rounds, {today}, {machine}")
    print(f"{'':16}{'requests/s':>12}{'p50 ms':>9}{'p99 ms':>9}")
    for name, figure in middle.items():
        print(f"{name:16}{figure.rate:12.0f}{figure.p50:9.2f}{figure.p99:9.2f}")
    for mode in MODES:
        spread = ratios(figures, mode)
        print(f"chain / stock, {mode}: {ratio[mode]:.2f} (rounds {min(spread):.2f} to {max(spread):.2f})")


if __name__ == "__main__":
    main()
