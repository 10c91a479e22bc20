"""Neither tokens nor payloads reach the log or an error page, whatever goes wrong."""

import socket
from collections.abc import Iterator

import pytest

from tests.world.echo import Reply
from tests.world.scene import GOOD, MASKED, SECRET, Scene

TOKEN = "Bearer eyJhbGciOiJFUzI1NiJ9.not-for-logs"  # noqa: S105 (nobody's)
HOSTILE = {
    "a header line that is none": b"HTTP/1.1 200 OK\r\nX-Leak " + SECRET.encode() + b"\r\n\r\n",
    "a status line that is none": b"HTTP/9 " + SECRET.encode() + b"\r\n\r\n",
    "a length that is none": b"HTTP/1.1 200 OK\r\nContent-Length: " + SECRET.encode() + b"\r\n\r\n",
    "a chunk that is none": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + SECRET.encode() + b"\r\n",
    "more than the reply": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n" + SECRET.encode() * 3,
}
BROKEN = {
    "a header line that is none": b"POST http://127.0.0.1:9/mcp HTTP/1.1\r\nAuthorization "
    + TOKEN.encode()
    + b"\r\n\r\n",
    "a request line that is none": b"POST /" + TOKEN.encode() + b" x y HTTP/1.1\r\n\r\n",
    "a length that is none": b"POST http://127.0.0.1:9/mcp HTTP/1.1\r\nContent-Length: " + TOKEN.encode() + b"\r\n\r\n",
    "half a head": b"POST http://127.0.0.1:9/mcp HTTP/1.1\r\nAuthorization: " + TOKEN.encode(),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that logs all that mitmproxy can log."""
    with Scene(tmp_path_factory.mktemp("scene"), options=["--set", "termlog_verbosity=debug"]) as running:
        yield running


@pytest.mark.parametrize("kind", HOSTILE)
def test_an_upstreams_broken_bytes_are_not_repeated(scene: Scene, kind: str) -> None:
    """What an upstream sends outside HTTP reaches neither the client nor the log; a good reply passes, masked."""
    assert MASKED in scene.call(reply=GOOD).text
    answer = _raw(scene, _call(scene), Reply((HOSTILE[kind],)))
    assert SECRET.encode() not in answer
    assert SECRET not in scene.gateway.log


@pytest.mark.parametrize("kind", BROKEN)
def test_a_clients_broken_bytes_are_not_logged(scene: Scene, kind: str) -> None:
    """What a client sends outside HTTP, its token included, does not reach the log, and nothing goes upstream."""
    before = scene.echo.connections
    _raw(scene, BROKEN[kind], GOOD)
    assert "not-for-logs" not in scene.gateway.log
    assert scene.echo.connections == before


def test_the_log_has_no_token(scene: Scene) -> None:
    """A good call leaves nothing of its token or its reply in the log, which does tell of the connection."""
    token = scene.token()
    assert MASKED in scene.call(reply=GOOD).text
    assert token.rsplit(".", 1)[1] not in scene.gateway.log
    assert SECRET not in scene.gateway.log
    assert "client connect" in scene.gateway.log


def _call(scene: Scene) -> bytes:
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"query","arguments":{}}}'
    head = (
        f"POST {scene.echo.url} HTTP/1.1\r\nHost: 127.0.0.1:{scene.echo.port}\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {scene.token()}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _raw(scene: Scene, sent: bytes, reply: Reply) -> bytes:
    scene.echo.answer(reply)
    with socket.create_connection(("127.0.0.1", scene.gateway.port), timeout=5) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR) if sent is BROKEN["half a head"] else None
        connection.settimeout(2)
        got = b""
        try:
            while chunk := connection.recv(65536):
                got += chunk
        except TimeoutError:
            pass
    return got
