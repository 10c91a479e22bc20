"""Requests that do not arrive in time, and heads that have no end: the connection is ended, nothing is forwarded."""

import socket
import time
from collections.abc import Iterator

import pytest

from tests.world.client import call_body, call_headers
from tests.world.echo import Reply
from tests.world.scene import GOOD, GOOD_EVENTS, Scene, passed

PATIENCE = 1.0  # seconds, the least that the policy may say
DRIP = 0.2
GIVES_UP = PATIENCE + 2.5


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that waits a second for a request to arrive."""
    with Scene(tmp_path_factory.mktemp("arrival"), limits={"arrival": "1s", "hold": "3s"}) as running:
        yield running


def head(scene: Scene, length: str) -> bytes:
    """The head of a good call."""
    fields = {"Host": f"127.0.0.1:{scene.echo.port}", **call_headers("get_customer", scene.token())}
    lines = [f"POST {scene.echo.url} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), length, "", ""]
    return "\r\n".join(lines).encode()


def seconds_until_ended(scene: Scene, opening: bytes, drip: bytes) -> float:
    """How long the gateway keeps a connection that says `opening` and then a drip now and then (or nothing)."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", scene.gateway.port), timeout=DRIP) as connection:
        connection.sendall(opening)
        while time.monotonic() - began < GIVES_UP:
            try:
                if not connection.recv(4096):
                    break
            except TimeoutError:
                pass
            except OSError:
                break
            if drip:
                try:
                    connection.sendall(drip)
                except OSError:
                    break
    return time.monotonic() - began


@pytest.mark.parametrize("drip", [b"", b" "], ids=["silent", "dripping"])
def test_a_body_that_does_not_arrive_is_not_waited_for(scene: Scene, drip: bytes) -> None:
    """A byte now and then does not keep a request alive; it is on record, and nothing was forwarded."""
    for length, more in (("Content-Length: 5000", drip), ("Transfer-Encoding: chunked", drip and b"1\r\n \r\n")):
        seen = scene.watch()
        assert PATIENCE <= seconds_until_ended(scene, head(scene, length), more) < GIVES_UP
        assert "limits.arrival" in seen.record(event="rejected", code="broken")["reason"]
        assert seen.connections == 0
    assert passed(scene.call())


@pytest.mark.parametrize("opening", ["", "POST http://", "CONNECT {} HTTP/1.1\r\nHost: {}\r\n\r\n"])
@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "dripping"])
def test_a_head_that_does_not_arrive_is_not_waited_for(scene: Scene, opening: str, drip: bytes) -> None:
    """Nor is a connection that says nothing, half a head, or nothing in its tunnel."""
    there = f"127.0.0.1:{scene.echo.port}"
    assert seconds_until_ended(scene, opening.replace("{}", there).encode(), drip) < GIVES_UP
    assert passed(scene.call())


def test_what_takes_long_for_a_reason_is_not_ended(scene: Scene) -> None:
    """A held call, a slow reply and a slow stream take longer than a request may; they are none of these."""
    held = scene.call("query", {"sql": "drop table x"}, patience=10)
    assert "needs approval" in held.text
    slow = Reply((2 * PATIENCE, *GOOD.parts))
    assert passed(scene.call(reply=slow))
    events = GOOD_EVENTS.parts
    assert passed(scene.call(reply=Reply((events[0], 2 * PATIENCE, *events[1:]))))
    body, headers = call_body("get_customer", {}), call_headers("get_customer", scene.token())
    scene.echo.answer(GOOD)
    assert passed(scene.http.post(scene.echo.url, json=body, headers=headers))
    time.sleep(2 * PATIENCE)  # an open connection between two calls
    scene.echo.answer(GOOD)
    assert passed(scene.http.post(scene.echo.url, json=body, headers=headers))


def test_a_head_without_end_is_not_read(scene: Scene) -> None:
    """A head of megabytes ends the connection after some tens of kilobytes, long before its deadline."""
    began, sent = time.monotonic(), 0
    with socket.create_connection(("127.0.0.1", scene.gateway.port), timeout=5) as connection:
        connection.sendall(b"POST / HTTP/1.1\r\nX: ")
        try:
            while sent < 100 << 20:
                sent += connection.send(b"x" * 65536)
        except OSError:
            pass
    assert sent < 8 << 20  # what the sockets' buffers hold, and a little
    assert time.monotonic() - began < PATIENCE
    assert passed(scene.call())


def test_a_replys_head_without_end_is_not_read(scene: Scene) -> None:
    """An upstream whose head has no end is an upstream that failed."""
    seen = scene.watch()
    endless = Reply((b"HTTP/1.1 200 OK\r\nX: ", *[b"x" * 65536] * 400, b"\r\n\r\n"))
    assert scene.call(reply=endless).status_code == 502
    assert seen.record(event="replied", code="broken")
    assert passed(scene.call())
