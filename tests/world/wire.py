"""Raw bytes over a socket, where an HTTP client would tidy up."""

import socket
import time
from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` is 0 where it was not HTTP, or nothing at all."""

    raw: bytes

    @property
    def status(self) -> int:
        """The status of the last HTTP response in it."""
        heads = [line for line in self.raw.split(b"\r\n") if line.startswith(b"HTTP/1.1 ")]
        return int(heads[-1].split()[1]) if heads else 0

    @property
    def body(self) -> bytes:
        """What follows the last head."""
        return self.raw.rpartition(b"\r\n\r\n")[2]


def converse(port: int, parts: Iterable[bytes], *, patience: float = 5) -> Answer:
    """Sends each part once the one before was answered; gives everything that came back.

    An answer is over when the gateway closes the connection, or says no more for a moment.
    """
    came = b""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        for part in parts:
            try:
                connection.sendall(part)
                came += _answer(connection, patience)
            except OSError:  # it hung up
                break
    return Answer(came)


def _answer(connection: socket.socket, patience: float) -> bytes:
    came, deadline = b"", time.monotonic() + patience
    while time.monotonic() < deadline and not _whole(came):
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            break
        if not piece:
            break
        came += piece
    return came


def _whole(came: bytes) -> bool:
    """Whether this is one whole response, by its Content-Length."""
    head, blank, body = came.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return _whole(body) if body else False
    if not blank or head.startswith(b"HTTP/1.1 200 Connection established"):
        return bool(blank)
    fields = dict(line.lower().partition(b":")[::2] for line in head.split(b"\r\n")[1:])
    length = fields.get(b"content-length")
    return length is not None and len(body) >= int(length)
