"""Too much and too late: floods and bombs in both directions, and clients that leave, cost the gateway little."""

import base64
import gzip
import json
import socket
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import brotli  # type: ignore[import-untyped]
import httpx
import pytest
import zstandard

from tests.world.client import LEGACY, call_body, call_headers
from tests.world.echo import JSON_TYPE, SSE_TYPE, Reply
from tests.world.scene import GOOD, GOOD_BODY, MASKED, SECRET, Scene, passed
from tests.world.wire import converse

MIB = 1024 * 1024
ROOM = 48 * MIB  # how much more memory the gateway may take than before; a tenth of what any of these would cost
FLOOD = 100 * MIB
BOMB = 400 * MIB  # once unpacked
PIECE = b"x" * MIB


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway with the default limits (4 MiB), warm."""
    with Scene(tmp_path_factory.mktemp("hostile"), limits={"body": "4MiB"}) as running:
        for _ in range(20):
            assert passed(running.call())
        yield running


class Memory:
    """How much more memory the gateway has taken, at its highest, since this began."""

    def __init__(self, scene: Scene) -> None:
        self._folder = Path(f"/proc/{scene.gateway.pid}")
        (self._folder / "clear_refs").write_text("5")  # the highest is counted from here on
        self._before = self._highest()

    def more(self) -> int:
        """In bytes."""
        return self._highest() - self._before

    def _highest(self) -> int:
        lines = (self._folder / "status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


@pytest.fixture
def memory(scene: Scene) -> Memory:
    """The gateway's, from now on."""
    return Memory(scene)


def _zlib_bomb(wbits: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, wbits)
    return b"".join(packer.compress(bytes(MIB)) for _ in range(BOMB // MIB)) + packer.flush()


def _brotli_bomb() -> bytes:
    packer = brotli.Compressor(quality=1)
    return bytes(b"".join(packer.process(bytes(MIB)) for _ in range(BOMB // MIB)) + packer.finish())


BOMBS: dict[str, Callable[[], bytes]] = {
    "gzip": lambda: _zlib_bomb(31),
    "deflate": lambda: _zlib_bomb(15),
    "br": _brotli_bomb,
    "zstd": lambda: zstandard.ZstdCompressor().compress(bytes(BOMB)),
}


def head(scene: Scene, *more: str) -> bytes:
    """The head of a good call, without what says where its body ends."""
    fields = call_headers("get_customer", scene.token(), era=LEGACY)
    fields |= {"Host": f"127.0.0.1:{scene.echo.port}", "Connection": "close"}
    lines = [f"POST {scene.echo.url} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), *more]
    return "\r\n".join(lines).encode()


def pour(scene: Scene, opening: bytes, piece: bytes, amount: int = FLOOD) -> tuple[int, bytes]:
    """Sends the opening, then the piece again and again; how much the gateway took, and what it said."""
    taken, said = 0, b""
    with socket.create_connection(("127.0.0.1", scene.gateway.port), timeout=5) as connection:
        try:
            connection.sendall(opening)
            while taken < amount:
                connection.sendall(piece)
                taken += len(piece)
        except OSError:
            pass
        try:
            while data := connection.recv(65536):
                said += data
        except OSError:
            pass
    return taken, said


@pytest.mark.parametrize("coding", BOMBS)
def test_a_bomb_in_a_request_is_not_unpacked(scene: Scene, memory: Memory, coding: str) -> None:
    """A compressed body is refused as it is."""
    bomb = BOMBS[coding]()
    assert len(bomb) < MIB
    seen = scene.watch()
    _, said = pour(scene, head(scene, f"Content-Encoding: {coding}", f"Content-Length: {len(bomb)}", "", ""), bomb, 1)
    assert said.startswith(b"HTTP/1.1 415 ")
    assert seen.record(event="rejected", code="unsupported")
    assert seen.connections == 0
    assert memory.more() < ROOM


@pytest.mark.parametrize("kind", [JSON_TYPE, SSE_TYPE], ids=["json", "events"])
@pytest.mark.parametrize("coding", BOMBS)
def test_a_bomb_in_a_reply_is_not_unpacked(scene: Scene, memory: Memory, coding: str, kind: tuple[str, str]) -> None:
    """A compressed reply, which was not asked for, is withheld as it is."""
    seen = scene.watch()
    reply = scene.call(reply=Reply.whole(BOMBS[coding](), headers=[kind, ("Content-Encoding", coding)]))
    assert "withheld" in reply.text
    assert b"accept-encoding: identity" in seen.arrived[0].lower()
    assert seen.record(code="withheld")
    assert memory.more() < ROOM


def test_packed_text_in_a_string_is_not_unpacked_without_bound(scene: Scene, memory: Memory) -> None:
    """Nor is what hides in an argument, in base64."""
    packed = gzip.compress(bytes(BOMB // 4))
    reply = scene.call(arguments={"data": base64.b64encode(packed).decode()}, patience=30)
    assert reply.status_code == 200
    assert memory.more() < ROOM


@pytest.mark.parametrize(
    ("framing", "piece"),
    [
        ("Transfer-Encoding: chunked", b"%x\r\n%b\r\n" % (MIB, PIECE)),
        ("Content-Length: 104857600", PIECE),
    ],
    ids=["chunks", "a length"],
)
def test_a_request_without_end_is_cut_off(scene: Scene, memory: Memory, framing: str, piece: bytes) -> None:
    """Of 100 MB no more is taken than a message may have; the caller is told, and it is on record."""
    seen = scene.watch()
    taken, said = pour(scene, head(scene, framing, "", ""), piece)
    assert taken < FLOOD / 2
    assert said.startswith(b"HTTP/1.1 413 ") or said == b""  # a reset can overtake the answer
    assert seen.record(event="rejected", code="broken")["reason"].endswith("gateway.limits.body.")
    assert seen.connections == 0
    assert memory.more() < ROOM
    assert passed(scene.call())


def test_a_body_in_tiny_chunks_takes_no_more_room_than_its_bytes(scene: Scene, memory: Memory) -> None:
    """Half a megabyte, a byte a chunk, is half a megabyte; as a list of half a million bytes it would be thirty."""
    body = json.dumps(call_body("get_customer", {"pad": "x" * 500_000}, era=LEGACY)).encode()
    scene.echo.answer(GOOD)
    chunks = b"".join(b"1\r\n%c\r\n" % one for one in body) + b"0\r\n\r\n"
    answer = converse(scene.gateway.port, [head(scene, "Transfer-Encoding: chunked", "", "") + chunks], patience=60)
    assert MASKED.encode() in answer.raw
    assert memory.more() < 24 * MIB


@pytest.mark.parametrize(
    ("opening", "piece"),
    [
        (b"POST http://", PIECE),
        (b"POST / HTTP/1.1\r\nX-Note: ", PIECE),
        (b"POST / HTTP/1.1\r\n", b"X-Note: 1\r\n" * 90000),
        (b"CONNECT ", PIECE),
        (b"", PIECE),
    ],
    ids=["a target", "a header", "headers", "a tunnel's target", "a method"],
)
def test_a_head_without_end_is_cut_off(scene: Scene, memory: Memory, opening: bytes, piece: bytes) -> None:
    """Nor is a head of 100 MB taken: a message's limit holds for what comes before its body, too."""
    taken, _ = pour(scene, opening, piece)
    assert taken < FLOOD / 2
    assert memory.more() < ROOM
    assert passed(scene.call())


@pytest.mark.parametrize(
    "opening",
    [
        b"Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"Content-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n6\r\ndata: \r\n",
        b"Content-Type: text/html\r\nTransfer-Encoding: chunked\r\n\r\n",
    ],
    ids=["json", "one event", "something else"],
)
def test_a_reply_without_end_is_cut_off(scene: Scene, memory: Memory, opening: bytes) -> None:
    """Of a reply of 100 MB, too, and the caller is told."""
    chunk = b"%x\r\n%b\r\n" % (MIB, PIECE)
    seen = scene.watch()
    try:
        reply = scene.call(reply=Reply((b"HTTP/1.1 200 OK\r\n" + opening, *[chunk] * (FLOOD // MIB))))
    except httpx.RemoteProtocolError:  # the stream ends without its last chunk
        pass
    else:
        assert len(reply.content) < MIB
        assert reply.status_code == 502 or "withheld" in reply.text
    assert seen.record(event="replied")["code"] in ("broken", "withheld")
    assert memory.more() < ROOM
    assert passed(scene.call())


@pytest.mark.parametrize("opening", [b"HTTP/1.1 200 OK\r\nX-Note: ", b""], ids=["a header", "a status line"])
def test_a_reply_whose_head_does_not_end_is_cut_off(scene: Scene, memory: Memory, opening: bytes) -> None:
    """And of one that never comes to its body."""
    seen = scene.watch()
    reply = scene.call(reply=Reply((opening, *[PIECE] * (FLOOD // MIB))))
    assert reply.status_code == 502
    assert seen.record(event="replied", code="broken")
    assert memory.more() < ROOM
    assert passed(scene.call())


def test_events_without_number_take_no_memory(scene: Scene, memory: Memory) -> None:
    """The control: a stream may be as long as it likes, as long as each of its events is not."""
    note = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%b"}}\n\n'
    events = note % (b"x" * 60000) * 4
    stream = [events] * (30 * MIB // len(events))
    reply = scene.call(reply=Reply.chunked([*stream, b"data: " + GOOD_BODY + b"\n\n"]), patience=60)
    assert len(reply.content) > 25 * MIB
    assert MASKED in reply.text
    assert memory.more() < ROOM


@pytest.mark.parametrize("sent", ["before the reply", "between two events"])
def test_a_reply_after_the_client_left_goes_nowhere(scene: Scene, sent: str) -> None:
    """The record says that it broke off; the gateway goes on."""
    note = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"begun"}}\n\n'
    late: list[bytes | float] = [0.6, b"data: " + GOOD_BODY + b"\n\n"]
    scene.echo.answer(Reply.chunked([note, *late] if sent == "between two events" else late))
    body = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"get_customer"}}'
    seen = scene.watch()
    with socket.create_connection(("127.0.0.1", scene.gateway.port), timeout=5) as connection:
        connection.sendall(head(scene, f"Content-Length: {len(body)}", "", "") + body)
        came = b""
        while sent == "between two events" and b"begun" not in came:
            came += connection.recv(65536)
        time.sleep(0.2)
    record = seen.record(event="replied", code="broken")
    assert SECRET not in str(record)
    assert len(seen.arrived) == 1
    time.sleep(0.6)
    assert seen.events().count("replied") == 1
    assert passed(scene.call())
