"""What the bench compares: the upstream by itself, stock mitmdump before it, and the full chain before it."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.world.gateway import MITMDUMP, Gateway
from tests.world.issuer import Issuer
from tests.world.policies import default_policy
from tests.world.process import Process, free_port

MODES = ("reverse", "regular")


@dataclass(frozen=True, slots=True)
class Contender:
    """Where a request is sent to, and what its request line says."""

    port: int
    target: str


@dataclass(frozen=True, slots=True)
class Field:
    """All contenders by name, the upstream's port, and a token that the chain takes."""

    contenders: dict[str, Contender]
    upstream: int
    token: str


@contextmanager
def field(folder: Path) -> Iterator[Field]:
    """Starts everything that is compared, all of it idle."""
    upstream, issuer = free_port(), Issuer(folder / "issuer")
    url = f"http://127.0.0.1:{upstream}"
    found = {"direct": Contender(upstream, "/mcp")}
    with ExitStack() as running:
        command = [sys.executable, "-m", "tests.bench.upstream", str(upstream)]
        running.enter_context(Process(command, folder / "upstream.log", ports=[upstream]))
        for mode in MODES:
            word = f"reverse:{url}" if mode == "reverse" else "regular"
            target = "/mcp" if mode == "reverse" else f"{url}/mcp"
            port = free_port()
            running.enter_context(
                Process(stock(word, port, folder / "stock"), folder / f"stock-{mode}.log", ports=[port])
            )
            found[f"stock {mode}"] = Contender(port, target)
            policy = default_policy(issuer, f"{url}/mcp", hold="45s")
            gateway = running.enter_context(Gateway(folder / f"chain-{mode}", policy, mode=word))
            found[f"chain {mode}"] = Contender(gateway.port, target)
        token = issuer.token("alice", groups=["mcp-users"], email="alice@example.com", lifetime=3600)
        yield Field(found, upstream, token)


def stock(mode: str, port: int, confdir: Path) -> list[str | Path]:
    """The command of a mitmdump as it comes: with no addon, an event stream is read whole before it is passed on."""
    where = ["--listen-host", "127.0.0.1", "--listen-port", str(port), "--set", f"confdir={confdir}"]
    return [MITMDUMP, "--mode", mode, *where]
