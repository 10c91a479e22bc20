"""Server-sent events (WHATWG HTML, section 9.2): bytes cut anywhere in, whole events out."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from mcp_sod.errors import Withheld

_LINE_END = re.compile(rb"\r\n|\n|\r")
_EVENT_ID = re.compile(r"[\x21-\x7e]{1,512}")
# What some clients take for the end of a line; inside JSON the escape means the same.
_LINES = {ord(char): f"\\u{ord(char):04x}" for char in "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"}
_KIND = re.compile(r"[a-z][a-z_.]{0,63}")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its data (lines joined by LF), and its opaque id, reconnection time and kind where they were sent."""

    data: str | None
    event_id: str | None = None
    retry: str | None = None
    kind: str | None = None

    def encode(self) -> bytes:
        """Return the event's bytes, in one form."""
        lines = [] if self.kind is None else [f"event: {self.kind}"]
        if self.event_id is not None:
            lines.append(f"id: {self.event_id}")
        if self.retry is not None:
            lines.append(f"retry: {self.retry}")
        if self.data is not None:
            lines += [f"data: {line}" for line in self.data.translate(_LINES).split("\n")]
        return ("\n".join(lines) + "\n\n").encode()


class Events:
    """Takes a stream's bytes as they come and gives its events; holds at most one event of `limit` bytes."""

    __slots__ = ("_after_cr", "_first", "_limit", "_lines", "_partial", "_size", "_waiting")

    def __init__(self, limit: int) -> None:
        """`limit`: bytes that one event may have."""
        self._limit = limit
        self._partial: list[bytes] = []
        self._lines: list[bytes] = []
        self._size = 0  # bytes of the lines, and of the line that has not ended
        self._waiting = 0
        self._first = True
        self._after_cr = False

    def feed(self, chunk: bytes) -> Iterator[Event | None]:
        """Yield each event that the chunk completes, None for a comment; raises Withheld for what is not SSE."""
        for line in self._whole_lines(chunk):
            if line:
                self._lines.append(line)
                self._size += len(line)
                self._bounded(0)
                continue
            lines, self._lines, self._size = self._lines, [], 0
            if lines:
                yield _event(lines)
        self._bounded(self._waiting)

    def _bounded(self, more: int) -> None:
        if self._size + more > self._limit:
            raise Withheld(f"An event of the reply is larger than {self._limit} bytes.")

    def _whole_lines(self, chunk: bytes) -> list[bytes]:
        if not chunk:
            return []
        if self._after_cr and chunk.startswith(b"\n"):
            chunk = chunk[1:]  # the second half of a CRLF that was cut in two
        self._after_cr = chunk.endswith(b"\r")
        head, *others = _LINE_END.split(chunk)
        self._partial.append(head)
        if not others:
            self._waiting += len(head)
            return []
        self._waiting = len(others[-1])
        first, self._partial = b"".join(self._partial), others[-1:]
        if self._first:
            self._first, first = False, first.removeprefix(b"\xef\xbb\xbf")
        return [first, *others[:-1]]


def _event(lines: list[bytes]) -> Event | None:
    fields: dict[str, list[str]] = {}
    for line in lines:
        try:
            name, _, value = line.decode("utf-8").partition(":")
        except UnicodeDecodeError:
            raise Withheld("An event of the reply is not UTF-8.") from None
        fields.setdefault(name, []).append(value.removeprefix(" "))
    return _checked(fields)


def _checked(fields: dict[str, list[str]]) -> Event | None:
    """Keep the fields that MCP uses. Comments (an empty name) and unknown fields carry text past the masks: dropped."""
    event_id, retry, kind = (fields.get(name, [None])[-1] for name in ("id", "retry", "event"))
    if kind and _KIND.fullmatch(kind) is None:
        raise Withheld("The reply has an event of a type that is not plain.")
    if event_id and _EVENT_ID.fullmatch(event_id) is None:
        raise Withheld("The reply has an event id that is not plain.")
    if retry is not None and not (retry.isascii() and retry.isdigit() and len(retry) < 10):
        retry = None
    data = "\n".join(fields["data"]) if "data" in fields else None
    return None if data is None and not event_id and retry is None else Event(data, event_id, retry, kind or None)
