"""Connections that are held open at the console, with no token: calls pass, and whoever sends a request is answered."""

import resource
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.world.approver import console
from tests.world.scene import Scene, passed

FILES = 300  # open files that the gateway may have
HELD = 2 * FILES
HALF_BODY = (
    b"POST /api/v1/tickets/t/votes HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
    b"Content-Length: 10000\r\n\r\n{"
)


@contextmanager
def holding(port: int, opening: bytes) -> Iterator[list[socket.socket]]:
    """Connections over which no more is said than this; as many as are taken."""
    with ExitStack() as stack:
        held = []
        for _ in range(HELD):
            try:
                held.append(stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=5)))
                held[-1].sendall(opening)
            except OSError:  # the gateway may hang up
                continue
        yield held


@pytest.mark.parametrize("opening", [HALF_BODY, b"GET /healthz HTTP/1.1\r\nX-", b""], ids=["body", "head", "nothing"])
def test_held_open_connections_stop_nobody(tmp_path: Path, opening: bytes) -> None:
    """More than the gateway may have open files; the console answers, too, and the gateway has not lost its mind."""
    with Scene(tmp_path) as scene:
        resource.prlimit(scene.gateway.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
        assert passed(scene.call())
        approver = scene.token("mcp-approvers", sub="paula")
        with holding(scene.gateway.console_port, opening) as held:
            assert len(held) > FILES
            for number in range(3):
                assert passed(scene.call(sub=f"u{number}", patience=6))
                health = httpx.get(f"{scene.gateway.console_url}/healthz", trust_env=False, timeout=6)
                assert health.json() == {"status": "ok"}
                assert console(scene, "GET", "tickets", token=approver).status_code == 200
        assert passed(scene.call())


def test_the_gateway_takes_the_files_that_it_may_have(tmp_path: Path) -> None:
    """Its soft limit is raised to the hard one, within reason; the one of whoever starts it stays."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    less = min(hard, 1024)
    resource.setrlimit(resource.RLIMIT_NOFILE, (less // 2, hard))
    try:
        with Scene(tmp_path) as scene:
            assert resource.prlimit(scene.gateway.pid, resource.RLIMIT_NOFILE)[0] >= less
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
