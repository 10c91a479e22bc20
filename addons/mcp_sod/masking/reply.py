"""One upstream's reply to one call, masked twice: as its reader may see it, and as records keep it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator

from mcp_sod.errors import Malformed, SodError, Unavailable, Withheld
from mcp_sod.exchange import ReplyKind
from mcp_sod.masking.masks import Masks
from mcp_sod.masking.message import MaskedMessage
from mcp_sod.wire.mcp import Call, check_reply, refusal_body, without_tools
from mcp_sod.wire.splice import splice
from mcp_sod.wire.sse import Event, Events
from mcp_sod.wire.strict_json import Json, parse, parse_text

KEPT = 64 * 1024  # characters of a reply that its record keeps; the digest speaks for the rest


class Reply:
    """Masks the messages of one reply and remembers what the outcome record will say."""

    def __init__(
        self, call: Call, reader: Masks, record: Masks, visible: Callable[[str], bool] | None, depth: int
    ) -> None:
        """`reader`: the masks for who reads it; `record`: all masks; `visible`: the tools that a list may show."""
        self._call = call
        self._reader = reader
        self._record = record
        self._visible = visible
        self._depth = depth
        self._counts: Counter[str] = Counter()
        self._kept: list[str] = []
        self._room = KEPT
        self._digest = hashlib.sha256()
        self._size = 0
        self.problem: SodError | None = None

    def whole(self, raw: bytes, kind: ReplyKind) -> bytes:
        """Return the masked body of a reply that was read whole; raises Withheld for anything but JSON."""
        if not raw:
            return raw
        if kind != "json":
            raise Withheld("The upstream's reply is of a kind that cannot be masked.")
        try:
            message = parse(raw, self._depth)
        except Malformed as error:
            raise Withheld(f"The upstream's reply was not understood: {error.sentence}") from None
        return self._delivered(self._masked(raw.decode(), message, streamed=False).encode())

    def event(self, event: Event) -> bytes:
        """Return the bytes of a masked event; raises Withheld."""
        if event.event_id and self._reader.redacted(event.event_id) != event.event_id:
            raise Withheld("An event's id holds something sensitive; a client needs it as it is.")
        if not event.data:
            return self._delivered(event.encode())
        try:
            message = parse_text(event.data, self._depth)
        except Malformed as error:
            raise Withheld(f"The upstream's reply was not understood: {error.sentence}") from None
        text = self._masked(event.data, message, streamed=True)
        return self._delivered(Event(text, event.event_id, event.retry).encode())

    def facts(self) -> dict[str, object]:
        """Return what the outcome record says: size and digest of what was delivered, what was masked, the text."""
        kept = "".join(self._kept)
        facts: dict[str, object] = {
            "bytes": self._size,
            "sha256": self._digest.hexdigest(),
            "masked": dict(self._counts),
            "body": kept,
            "cut": self._room == 0,
        }
        return facts | ({"code": self.problem.code, "reason": self.problem.sentence} if self.problem else {})

    def _masked(self, text: str, message: Json, *, streamed: bool) -> str:
        checked = check_reply(message, self._call, streamed=streamed)
        if self._visible is not None:
            changes = without_tools(text, checked, self._visible)
            if changes:
                text = splice(text, changes)
                checked = check_reply(parse_text(text, self._depth), self._call, streamed=streamed)
        listing = self._call.method == "tools/list"
        delivered = MaskedMessage(self._reader, listing, self._counts).text(text, checked)
        self._keep(delivered if self._record == self._reader else self._for_record(text, checked, listing))
        return delivered

    def _for_record(self, text: str, message: dict[str, Json], listing: bool) -> str:  # noqa: FBT001 (private)
        try:
            return MaskedMessage(self._record, listing).text(text, message)
        except Withheld as error:  # its reader may have it raw, the record may not
            return f"[not kept: {error.sentence}]"

    def _keep(self, text: str) -> None:
        part = text[: self._room]
        self._kept.append(part)
        self._room -= len(part)

    def _delivered(self, out: bytes) -> bytes:
        self._digest.update(out)
        self._size += len(out)
        return out


class Stream:
    """What mitmproxy calls with each chunk of an SSE reply: whole masked events out, nothing else, ever."""

    def __init__(self, reply: Reply, call: Call, reference: str, limit: int) -> None:
        """`limit`: bytes of one event."""
        self._reply = reply
        self._call = call
        self._reference = reference
        self._events = Events(limit)

    def __call__(self, chunk: bytes) -> list[bytes]:
        """Return the chunks to deliver; after a failure, one error event and then nothing more."""
        if self._reply.problem is not None:
            return []
        out: list[bytes] = []
        try:
            out.extend(self._masked(chunk))
        except SodError as error:
            out.append(self._ended(error))
        except Exception:  # noqa: BLE001 (raising here would hang the client; everything unforeseen withholds)
            out.append(self._ended(Unavailable("The gateway failed on this reply and withheld the rest.")))
        return out

    def _masked(self, chunk: bytes) -> Iterator[bytes]:
        for event in self._events.feed(chunk):
            yield b":\n\n" if event is None else self._reply.event(event)

    def _ended(self, error: SodError) -> bytes:
        self._reply.problem = error
        refusal = Withheld(error.sentence, hint=error.hint)
        return Event(refusal_body(self._call, refusal, self._reference, None).decode()).encode()
