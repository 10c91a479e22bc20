"""An upstream that keeps every byte it gets and answers with what a test scripted, well-formed or hostile.

`Echo` runs in a thread of the test; `python -m tests.world.echo --port 9000 --log FILE` runs one by itself.
"""

import argparse
import asyncio
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Self

Headers = Sequence[tuple[str, str]]
JSON_TYPE = ("Content-Type", "application/json")
SSE_TYPE = ("Content-Type", "text/event-stream")


def _head(status: int, headers: Headers) -> bytes:
    lines = [
        f"HTTP/1.1 {status} Scripted",
        *(f"{name}: {value}" for name, value in headers),
        "Connection: close",
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


@dataclass(frozen=True, slots=True)
class Reply:
    """What goes out on the wire: bytes as they are, and numbers that are pauses in seconds.

    The connection closes after the last part, so a reply that ends too early is one that lacks parts.
    """

    parts: tuple[bytes | float, ...]

    @classmethod
    def whole(cls, body: bytes, *, status: int = 200, headers: Headers = (JSON_TYPE,)) -> Self:
        """A reply with a Content-Length."""
        return cls((_head(status, [*headers, ("Content-Length", str(len(body)))]), body))

    @classmethod
    def chunked(cls, pieces: Iterable[bytes | float], *, status: int = 200, headers: Headers = (SSE_TYPE,)) -> Self:
        """A chunked reply, one chunk a piece; numbers among the pieces are pauses."""
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) if isinstance(piece, bytes) else piece for piece in pieces]
        head = _head(status, [*headers, ("Transfer-Encoding", "chunked")])
        return cls((head, *chunks, b"0\r\n\r\n"))


NOTHING = Reply.whole(b"{}")
type Answering = Callable[[bytes], Reply]  # gives the reply to a request, as it arrived


class Echo:
    """A loopback HTTP/1 server in a thread: `arrived` is what came in, `answer` says what goes out.

    One request a connection. The last reply given stays for every later request. What arrives is also
    appended to `log_file`, if there is one.
    """

    def __init__(self, *replies: Reply, log_file: Path | None = None, tls: ssl.SSLContext | None = None) -> None:
        self.arrived: list[bytes] = []
        self.connections = 0  # all of them, those over which nothing came included
        self.port = 0
        self._log_file = log_file
        self._tls = tls
        self._replies: deque[Reply | Answering] = deque(replies or (NOTHING,))
        self._stop: Callable[[], object] = lambda: None
        self._listening = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)

    @property
    def url(self) -> str:
        """Its address as an MCP endpoint."""
        return f"https://localhost:{self.port}/mcp" if self._tls else f"http://127.0.0.1:{self.port}/mcp"

    def __enter__(self) -> Self:
        self._thread.start()
        self._listening.wait(10)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()
        self._thread.join(10)

    def answer(self, *replies: "Reply | Answering") -> None:
        """From now on gives these replies, one a request, and the last one for ever."""
        self._replies = deque(replies)

    async def serve(self, port: int = 0) -> None:
        """Listens until it is told to stop; conversations still going on are then cut off."""
        stopping = asyncio.Event()
        self._stop = partial(asyncio.get_running_loop().call_soon_threadsafe, stopping.set)
        server = await asyncio.start_server(self._converse, "127.0.0.1", port, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._listening.set()
        await stopping.wait()
        server.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            await self._serve_one(reader, writer)
        except ConnectionError:
            pass  # the gateway hung up, as it may on a hostile reply
        finally:
            writer.close()

    async def _serve_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await _read_request(reader)
        if request:
            await _send(writer, self._took(request))

    def _took(self, request: bytes) -> Reply:
        """Keep the request; gives the reply that is its."""
        self._keep(request)
        reply = self._replies.popleft() if len(self._replies) > 1 else self._replies[0]
        return reply if isinstance(reply, Reply) else reply(request)

    def _keep(self, request: bytes) -> None:
        self.arrived.append(request)
        if self._log_file:
            with self._log_file.open("ab") as log:
                log.write(request + b"\n")


async def _read_request(reader: asyncio.StreamReader) -> bytes:
    """One request as it came, chunk framing included; what was there, if the peer hung up in the middle."""
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        fields = dict(line.lower().partition(b":")[::2] for line in head.split(b"\r\n")[1:])
        if b"chunked" in fields.get(b"transfer-encoding", b""):
            return head + await reader.readuntil(b"0\r\n\r\n")
        return head + await reader.readexactly(int(fields.get(b"content-length", b"0")))
    except asyncio.IncompleteReadError as error:
        return error.partial


async def _send(writer: asyncio.StreamWriter, reply: Reply) -> None:
    for part in reply.parts:
        if isinstance(part, bytes):
            writer.write(part)
            await writer.drain()
        else:
            await asyncio.sleep(part)


def main() -> None:
    """Answers `{}` to everything until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--log", type=Path, required=True)
    arguments = parser.parse_args()
    asyncio.run(Echo(log_file=arguments.log).serve(arguments.port))


if __name__ == "__main__":
    main()
