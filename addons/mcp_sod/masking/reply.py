"""One upstream's reply to one call, masked twice: as its reader may see it, and as records keep it."""

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator

from mcp_sod.errors import Malformed, SodError, Unavailable, Withheld
from mcp_sod.exchange import ReplyKind
from mcp_sod.masking.masks import Masks
from mcp_sod.masking.message import BUDGET_PER_CHARACTER, MaskedMessage
from mcp_sod.wire.sse import Event, Events
from mcp_sod.wire.strict_json import Json, dumps, parse, parse_text

KEPT = 64 * 1024  # characters of a reply that its record keeps; the digest speaks for the rest


class Reply:
    """Masks the messages of one reply and remembers what the outcome record will say.

    By itself it is the reply of a service of which nothing is known: JSON or text. What is known of MCP and of model
    APIs is in its subclasses.
    """

    def __init__(self, reader: Masks, record: Masks, depth: int) -> None:
        """`reader`: the masks for who reads it; `record`: all masks; `depth`: how deep JSON may be nested."""
        self._reader = reader
        self._record = record
        self._depth = depth
        self._counts: Counter[str] = Counter()
        self._kept: list[str] = []
        self._room = KEPT
        self._digest = hashlib.sha256()
        self._size = 0
        self._per_character = BUDGET_PER_CHARACTER
        self.problem: SodError | None = None

    def on_the_loop(self) -> None:
        """From now on messages are masked on the event loop, where a large one has no more time than a small one."""
        self._per_character = 0.0

    # what the stage asks for

    def whole(self, raw: bytes, kind: ReplyKind) -> bytes:
        """Return the masked body of a reply that was read whole; raises Withheld for what cannot be masked."""
        if not raw:
            return raw
        if kind not in ("json", "text"):
            raise Withheld("The upstream's reply is of a kind that cannot be masked.")
        try:
            text = raw.decode("utf-8")
        except UnicodeDecodeError:
            raise Withheld("The upstream's reply was not understood: it is not UTF-8.") from None
        shown = self._words(text) if kind == "text" else self._message(text, self._parsed(text), streamed=False)
        return self.delivered(shown.encode())

    def event(self, event: Event) -> bytes:
        """Return the bytes of a masked event; raises Withheld."""
        self._plain_id(event)
        text = event.data
        if text:
            text = self._streamed(text)
        return self.delivered(Event(text, event.event_id, event.retry, event.kind).encode())

    def aside(self) -> bytes:
        """Return what the gateway itself has to say on this stream."""
        return b""

    def rest(self) -> bytes:
        """Return what is held back still when the stream is over."""
        return b""

    def ending(self, refusal: Withheld, reference: str) -> bytes:
        """Return the event with which a stream ends of which the rest is withheld."""
        return Event(dumps({"error": f"{refusal.for_caller} (reference {reference})"}), kind="error").encode()

    def facts(self) -> dict[str, object]:
        """Return what the outcome record says: size and digest of what was delivered, what was masked, the text."""
        facts: dict[str, object] = {
            "bytes": self._size,
            "sha256": self._digest.hexdigest(),
            "masked": dict(self._counts),
            "body": "".join(self._kept),
            "cut": self._room == 0,
        }
        return facts | ({"code": self.problem.code, "reason": self.problem.told} if self.problem else {})

    # what subclasses know better

    def _message(self, text: str, value: Json, *, streamed: bool) -> str:  # noqa: ARG002 (for subclasses)
        return self._masked(text, value)

    def _streamed(self, text: str) -> str:
        try:
            value = parse_text(text, self._depth)
        except Malformed:
            return self._words(text)
        return self._masked(text, value)

    # what they share

    def _parsed(self, text: str) -> Json:
        try:
            return parse_text(text, self._depth)
        except Malformed as error:
            raise Withheld(f"The upstream's reply was not understood: {error.sentence}") from None

    def _masked(self, text: str, value: Json, *, listing: bool = False) -> str:
        masked = MaskedMessage(self._reader, listing, self._counts, per_character=self._per_character).text(text, value)
        self._keep(masked if self._record == self._reader else self._for_record(text, value, listing=listing))
        return masked

    def _words(self, text: str) -> str:
        shown = parse(self._masked(dumps(text), text).encode())
        assert isinstance(shown, str)
        return shown

    def _plain_id(self, event: Event) -> None:
        for said in (event.event_id, event.kind):
            if said and self._reader.redacted(said) != said:
                raise Withheld("An event's id or type holds something sensitive; a client needs it as it is.")

    def _for_record(self, text: str, value: Json, *, listing: bool) -> str:
        try:
            return MaskedMessage(self._record, listing, per_character=self._per_character).text(text, value)
        except SodError as error:  # its reader may have it raw, the record may not
            return f"[not kept: {error.sentence}]"

    def _keep(self, text: str) -> None:
        part = text[: self._room]
        self._kept.append(part)
        self._room -= len(part)

    def delivered(self, out: bytes) -> bytes:
        """Take note of what the client gets, and return it."""
        self._digest.update(out)
        self._size += len(out)
        return out


class Stream:
    """What mitmproxy calls with each chunk of an SSE reply: whole masked events out, nothing else, ever."""

    def __init__(
        self, reply: Reply, reference: str, limit: int, ended: Callable[[], SodError | None] | None = None
    ) -> None:
        """`limit`: bytes of one event; `ended`: says why a stream that may last for days must not go on, if so."""
        self._reply = reply
        self._reference = reference
        self._events = Events(limit)
        self._ended_by = ended
        reply.on_the_loop()

    @property
    def watched(self) -> bool:
        """Whether it lasts, so that something may happen between two chunks."""
        return self._ended_by is not None

    @property
    def over(self) -> bool:
        """Whether the rest is withheld, and nothing more will come."""
        return self._reply.problem is not None

    def aside(self) -> list[bytes]:
        """Return what the gateway itself has to say on this stream now; it may be over then."""
        if self.over or self._ended_by is None:
            return []
        said = self._reply.aside()
        self._reply.problem = self._ended_by()
        return [said] if said else []

    def __call__(self, chunk: bytes) -> list[bytes]:
        """Return what to deliver, as one chunk or none; after a failure, one error event and then nothing more."""
        out = self.aside()
        if self._reply.problem is not None:
            return out
        try:
            out.extend(self._masked(chunk))
        except SodError as error:
            out.append(self._ended(error))
        except Exception:  # noqa: BLE001 (raising here would hang the client; everything unforeseen withholds)
            out.append(self._ended(Unavailable("The gateway failed on this reply and withheld the rest.")))
        whole = b"".join(out)
        return [whole] if whole else []

    def _masked(self, chunk: bytes) -> Iterator[bytes]:
        for event in self._events.feed(chunk):
            yield b":\n\n" if event is None else self._reply.event(event)
        if not chunk:
            yield self._reply.rest()

    def _ended(self, error: SodError) -> bytes:
        self._reply.problem = error
        return self._reply.delivered(self._reply.ending(Withheld(error.sentence, hint=error.hint), self._reference))
