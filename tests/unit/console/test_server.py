"""Where the console listens."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest
from fastapi import FastAPI, Request
from mcp_sod.console import connections, server
from mcp_sod.console.server import MAX_BODY, MAX_SIGN_ON, Server, Small, claim
from mcp_sod.errors import StartError


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_told(host: str) -> None:
    """A console whose port is taken does not start, and says which port and what to do."""
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with claim(host, 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(StartError, match=rf"cannot listen on {host}:{port}: .* change gateway\.console"):
            claim(host, port)


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"x" * MAX_BODY, 200), (b"x" * (MAX_BODY + 1), 413), (None, 413), (b"", 200)],
    ids=["as large as may be", "one byte more", "of no stated length", "empty"],
)
async def test_a_large_body_is_refused_unread(content: bytes | None, status: int) -> None:
    """Whoever sends the console more than a vote, with or without a token, is refused before anything reads it."""
    app = FastAPI()
    app.add_api_route("/", lambda: "read", methods=["POST"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Small(app)), base_url="http://console") as client:
        assert (await client.post("/", content=_chunks() if content is None else content)).status_code == status


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/saml/corp/acs", MAX_SIGN_ON, 200),
        ("/saml/corp/acs", MAX_SIGN_ON + 1, 413),
        ("/saml/corp/acs/", MAX_BODY + 1, 413),
        ("/saml/a/b/acs", MAX_BODY + 1, 413),
        ("/api/saml/corp/acs", MAX_BODY + 1, 413),
        ("/api/v1/tickets/t-1/votes", MAX_BODY + 1, 413),
        ("/saml/corp", MAX_BODY + 1, 413),
    ],
)
async def test_only_where_people_sign_on_a_body_may_be_larger(path: str, size: int, status: int) -> None:
    """A SAML response fits where responses come, and nowhere else."""
    app = FastAPI()
    app.add_api_route("/{path:path}", lambda: "read", methods=["POST"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Small(app)), base_url="http://console") as client:
        assert (await client.post(path, content=b"x" * size)).status_code == status


HALF = b"POST / HTTP/1.1\r\nHost: c\r\nContent-Length: 9\r\n\r\n"
LATE = 0.4  # seconds that the tests' console waits


@pytest.fixture
async def port(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[int]:
    """Where a console listens that waits for little and keeps four connections; `/` repeats what it is sent."""
    for name in ("HEAD", "WHOLE"):
        monkeypatch.setattr(connections, name, LATE if name == "HEAD" else 2 * LATE)
    for module in (connections, server):
        monkeypatch.setattr(module, "MOST", 4)
    monkeypatch.setattr(server, "PATIENCE", LATE)
    app = FastAPI()

    async def echo(request: Request, wait: float = 0) -> str:
        await asyncio.sleep(wait)
        return (await request.body()).decode()

    app.add_api_route("/", echo, methods=["GET", "POST"])
    claimed = claim("127.0.0.1", 0)
    serving = Server(app, claimed)
    task = asyncio.create_task(serving.run_here())
    async with asyncio.timeout(5):
        while not serving.started:  # noqa: ASYNC110 (uvicorn has no event for it)
            await asyncio.sleep(0.01)
    yield int(claimed.getsockname()[1])
    serving.should_exit = True
    await task


@asynccontextmanager
async def talking(port: int, opening: bytes) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection over which this was said."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(opening)
    await writer.drain()
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def held(port: int, opening: bytes, drip: bytes = b"") -> tuple[float, bytes]:
    """How long a connection lasts over which this is said, and then a drip now and then; and what it was told."""
    began = time.monotonic()
    async with talking(port, opening) as (reader, writer):
        said = asyncio.ensure_future(_all(reader))
        while not said.done() and time.monotonic() - began < 5:
            writer.write(drip)
            await asyncio.wait([said], timeout=0.05)
        assert said.done(), "it is held for ever"
        return time.monotonic() - began, said.result()


async def _all(reader: asyncio.StreamReader) -> bytes:
    came = b""
    try:
        while piece := await reader.read(4096):
            came += piece
    except ConnectionError:
        pass
    return came


@pytest.mark.parametrize("drip", [b"", b"x"], ids=["silent", "dripping"])
@pytest.mark.parametrize(
    ("opening", "status"),
    [
        (b"", b""),
        (b"GET / HTTP/1.1\r\nX-A: ", b""),
        (HALF.replace(b"9", b"9999"), b"408"),
        (b"GET / HTTP/1.1\r\nHost: c\r\n\r\n", b"200"),
        (HALF.replace(b"9", b"99999"), b"413"),
        (b"GET / HTTP/1.1\r\nHost: c\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n", b"200"),
    ],
    ids=["nothing", "half a head", "half a body", "nothing more", "a refused body", "an upgrade"],
)
async def test_no_connection_is_held(port: int, opening: bytes, status: bytes, drip: bytes) -> None:
    """Whatever does not come is not waited for, not even where a byte comes now and then."""
    seconds, told = await held(port, opening, drip)
    assert told[9:12] == status
    # uvicorn's own time-out ends a connection that is silent after an answer, or a broken next head.
    assert seconds < 3 * LATE + 0.5 or (drip == b"" and seconds < 5)


async def test_what_comes_in_time_is_answered(port: int) -> None:
    """A body in pieces, and several requests one after the other on one connection that lasts longer than one may."""
    async with talking(port, b"") as (reader, writer):
        for _ in range(4):
            writer.write(HALF)
            for piece in (b"123", b"456", b"789"):
                await asyncio.sleep(LATE / 8)
                writer.write(piece)
            async with asyncio.timeout(5):
                head = await reader.readuntil(b"\r\n\r\n")
                assert await reader.readexactly(11) == b'"123456789"'
            assert b" 200 " in head


async def test_many_connections_do_not_keep_others_out(port: int) -> None:
    """Room is made by ending those that have waited longest for a request; a whole request always gets in."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        holding = [asyncio.ensure_future(held(port, HALF if number % 2 else b"")) for number in range(20)]
        await asyncio.sleep(LATE / 4)
        ended = [one for one in holding if one.done()]
        assert len(ended) >= 15
        assert (await client.get("/")).status_code == 200
        await asyncio.gather(*holding)


async def test_whoever_has_waited_longest_makes_room(port: int) -> None:
    """A request that is just coming in is not what newcomers push out."""
    old = [asyncio.ensure_future(held(port, HALF)) for _ in range(4)]
    await asyncio.sleep(LATE / 8)
    async with talking(port, HALF) as (reader, writer):
        await asyncio.sleep(LATE / 8)
        new = [asyncio.ensure_future(held(port, b"")) for _ in range(2)]
        await asyncio.sleep(LATE / 8)
        writer.write(b"123456789")
        async with asyncio.timeout(5):
            assert b" 200 " in await reader.readline()
    await asyncio.gather(*old, *new)


async def test_what_is_being_answered_is_not_ended_for_others(port: int) -> None:
    """Where every connection is busy, one more is told so at once; the busy ones get their answers."""
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}") as client:
        busy = [asyncio.ensure_future(client.get("/", params={"wait": LATE})) for _ in range(4)]
        await asyncio.sleep(LATE / 2)
        began = time.monotonic()
        assert (await client.get("/")).status_code == 503
        assert time.monotonic() - began < LATE / 2
        assert [one.status_code for one in await asyncio.gather(*busy)] == [200] * 4
        assert (await client.get("/")).status_code == 200


async def _chunks() -> AsyncIterator[bytes]:
    yield b"in chunks"
