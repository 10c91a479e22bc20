"""An MCP upstream that answers every POST with the same small result, as fast as asyncio can.

Calls of one tool it answers with an event stream: nineteen messages about its progress, and the result.
Run as `python -m tests.bench.upstream PORT`; it ends with its parent or on SIGTERM.
"""

import asyncio
import json
import sys

from tests.bench.workloads import STREAMED

RESULT = {"content": [{"type": "text", "text": "a plain answer " * 12}], "isError": False}
BODY = json.dumps({"jsonrpc": "2.0", "id": 1, "result": RESULT}).encode()
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(BODY)
NUMBER = 20
NOTES = [
    {"level": "info", "logger": "watch", "data": f"step {number} of {NUMBER}, all is well " * 4}
    for number in range(1, NUMBER)
]
MESSAGES = [{"jsonrpc": "2.0", "method": "notifications/message", "params": note} for note in NOTES]
EVENTS = [b"event: message\ndata: " + body + b"\n\n" for body in [*(json.dumps(m).encode() for m in MESSAGES), BODY]]
SSE_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
STREAM = SSE_HEAD + b"".join(b"%x\r\n%b\r\n" % (len(event), event) for event in EVENTS) + b"0\r\n\r\n"
_NAMED = f'"{STREAMED}"'.encode()
_NEAR = 200  # bytes of a body in which the tool's name stands


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
            streamed = self._buffer.find(_NAMED, end, end + _NEAR) >= 0
            self._buffer = self._buffer[end + 4 + length :]
            self._transport.write(STREAM if streamed else HEAD + BODY)


async def main(port: int) -> None:
    """Serves until ended."""
    server = await asyncio.get_running_loop().create_server(Answers, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
