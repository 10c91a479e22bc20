"""An MCP upstream that answers every POST with the same small result, as fast as asyncio can.

Run as `python -m tests.bench.upstream PORT`; it ends with its parent or on SIGTERM.
"""

import asyncio
import json
import sys

RESULT = {"content": [{"type": "text", "text": "a plain answer " * 12}], "isError": False}
BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "result": RESULT}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)


class Answers(asyncio.Protocol):
    """Reads requests with a Content-Length and answers each."""

    def __init__(self) -> None:
        self._buffer = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keeps the connection."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers every request that is complete."""
        self._buffer += data
        while (end := self._buffer.find(b"\r\n\r\n")) >= 0:
            length = int(self._buffer[:end].lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
            if len(self._buffer) < end + 4 + length:
                return
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(HEAD + BODY)


async def main(port: int) -> None:
    """Serves until ended."""
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
