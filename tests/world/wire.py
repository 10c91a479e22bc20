"""Raw bytes over a socket, where an HTTP client would tidy up."""

import re
import socket
import ssl
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    ResponseReceived,
    StreamEnded,
    StreamReset,
    TrailersReceived,
)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back; `status` is 0 where it was not HTTP, or nothing at all."""

    raw: bytes

    @property
    def status(self) -> int:
        """The status of the last HTTP response in it."""
        heads = re.findall(rb"HTTP/1\.1 (\d{3}) ", self.raw)
        return int(heads[-1]) if heads else 0

    @property
    def body(self) -> bytes:
        """What follows the last head."""
        return self.raw.rpartition(b"\r\n\r\n")[2]


def converse(port: int, parts: Iterable[bytes], *, patience: float = 5, answers: int = 1) -> Answer:
    """Sends each part once the one before was answered; gives everything that came back.

    An answer is over when the gateway closes the connection, or says no more for a moment; `answers` says how many are
    waited for after each part.
    """
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        return converse_on(connection, parts, patience=patience, answers=answers)


def converse_on(connection: socket.socket, parts: Iterable[bytes], *, patience: float = 5, answers: int = 1) -> Answer:
    """The same on a connection that is open already."""
    came = b""
    for part in parts:
        try:
            connection.sendall(part)
            came += _answer(connection, patience, answers)
        except OSError:  # it hung up
            break
    return Answer(came)


def _answer(connection: socket.socket, patience: float, answers: int) -> bytes:
    came, deadline = b"", time.monotonic() + patience
    while time.monotonic() < deadline and not _whole(came, answers):
        connection.settimeout(max(0.01, deadline - time.monotonic()))
        try:
            piece = connection.recv(65536)
        except TimeoutError:
            break
        if not piece:
            break
        came += piece
    return came


def _whole(came: bytes, answers: int) -> bool:
    """Whether these are as many whole responses, by their Content-Lengths."""
    head, blank, body = came.partition(b"\r\n\r\n")
    if head.startswith(b"HTTP/1.1 100"):
        return _whole(body, answers) if body else False
    if not blank or head.startswith(b"HTTP/1.1 200 Connection established"):
        return bool(blank)
    fields = dict(line.lower().partition(b":")[::2] for line in head.split(b"\r\n")[1:])
    length = fields.get(b"content-length")
    if length is None or len(body) < int(length):
        return False
    return answers == 1 or _whole(body[int(length) :], answers - 1)


def tunnel(port: int, target: str | None, *, patience: float = 10) -> socket.socket:
    """A connection to the gateway, and through CONNECT to `target` if there is one."""
    connection = socket.create_connection(("127.0.0.1", port), timeout=patience)
    if target:
        connection.sendall(f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n\r\n".encode())
        answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 "), answer
    return connection


@dataclass(slots=True)
class Stream:
    """What came back on one stream: status 0 until there is a head; `reset` is the error code it was ended with."""

    status: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    trailers: list[tuple[str, str]] = field(default_factory=list)
    body: bytes = b""
    pieces: list[tuple[float, bytes]] = field(default_factory=list)  # when each came, by the monotonic clock
    over: bool = False
    reset: int | None = None


class Http2:
    """An HTTP/2 client that sends what it is told to, well-formed or not, and keeps every stream apart."""

    def __init__(self, connection: ssl.SSLSocket) -> None:
        assert connection.selected_alpn_protocol() == "h2"
        self._connection = connection
        self._http = H2Connection(
            H2Configuration(validate_outbound_headers=False, normalize_outbound_headers=False, header_encoding="utf-8")
        )
        self._http.initiate_connection()
        self.streams: dict[int, Stream] = {}
        self.closed = False  # the gateway has ended the connection

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._connection.close()

    def send(
        self,
        headers: Iterable[tuple[str, str]],
        body: bytes = b"",
        *,
        end: bool = True,
        trailers: Iterable[tuple[str, str]] = (),
    ) -> int:
        """Sends a request, whole unless `end` is false; gives its stream's number."""
        number = self._http.get_next_available_stream_id()
        self.streams[number] = Stream()
        trailers = list(trailers)
        # Bytes: a text would be encoded, and what is no UTF-8 could not be sent.
        fields = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        self._http.send_headers(number, fields)
        self._send_body(number, body)
        if trailers:
            self._http.send_headers(number, trailers, end_stream=True)
        elif end and not self.streams[number].over:
            self._http.end_stream(number)
        self._flush()
        return number

    def _send_body(self, number: int, body: bytes) -> None:
        """Sends as fast as the gateway takes it, until it has had enough."""
        while body and not self.streams[number].over and not self.closed:
            size = min(self._http.local_flow_control_window(number), self._http.max_outbound_frame_size)
            if size:
                self._http.send_data(number, body[:size])
                body = body[size:]
            else:
                self._flush()
                self._read(1)

    def reset(self, number: int) -> None:
        """Takes a request back."""
        self._http.reset_stream(number, 8)
        self._flush()

    def wait(self, *numbers: int, patience: float = 5) -> Stream:
        """Reads until these streams are over, or the connection is; gives the first of them."""
        deadline = time.monotonic() + patience
        while not all(self.streams[number].over for number in numbers) and not self.closed:
            remaining = deadline - time.monotonic()
            if remaining <= 0:
                break
            self._read(remaining)
        return self.streams[numbers[0]]

    def _read(self, patience: float) -> None:
        self._connection.settimeout(max(0.01, patience))
        try:
            data = self._connection.recv(65536)
        except TimeoutError:
            return
        except OSError:
            data = b""
        self.closed = not data
        for event in self._http.receive_data(data) if data else ():
            self._note(event)
        self._flush()

    def _note(self, event: Event) -> None:
        match event:
            case ResponseReceived(stream_id=int(number), headers=headers):
                found = {str(name): str(value) for name, value in headers or ()}
                self.streams[number].status = int(found.pop(":status"))
                self.streams[number].headers = found
            case DataReceived(stream_id=int(number), data=bytes(piece)):
                self.streams[number].body += piece
                self.streams[number].pieces.append((time.monotonic(), piece))
                self._http.acknowledge_received_data(event.flow_controlled_length or 0, number)
            case TrailersReceived(stream_id=int(number), headers=headers):
                self.streams[number].trailers = [(str(name), str(value)) for name, value in headers or ()]
            case StreamEnded(stream_id=int(number)):
                self.streams[number].over = True
            case StreamReset(stream_id=int(number)):
                self.streams[number].over = True
                self.streams[number].reset = int(event.error_code or 0)
            case ConnectionTerminated():
                self.closed = True

    def _flush(self) -> None:
        with suppress(OSError):
            self._connection.sendall(self._http.data_to_send())
