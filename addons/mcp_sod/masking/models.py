"""The reply of a model API, whole or streamed."""

from collections import Counter
from typing import cast

from mcp_sod.errors import SodError, Withheld
from mcp_sod.exchange import Exchange
from mcp_sod.masking.deltas import ModelStream, masked_whole
from mcp_sod.masking.masks import Masks
from mcp_sod.masking.model_events import Sent
from mcp_sod.masking.reply import Reply
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.models import Dialect, Told, stream_error
from mcp_sod.wire.sse import Event
from mcp_sod.wire.strict_json import Json

MOST_HELD = 64 * 1024  # characters of one reply's texts: what is held is looked through on the event loop


class ModelReply(Reply):
    """Masks what a model says, also where a text comes in pieces."""

    def __init__(self, exchange: Exchange, dialect: Dialect, reader: Masks, record: Masks) -> None:
        """`exchange`: whose reply it is."""
        limits = exchange.policy.gateway.limits
        super().__init__(reader, record, limits.depth)
        self._dialect: Dialect = dialect
        self._endpoint = cast("Call", exchange.call).method
        self._limit = min(limits.body, MOST_HELD)
        self._stream: ModelStream | None = None
        self._kept_stream: ModelStream | None = None

    def event(self, event: Event) -> bytes:
        """Return the bytes of the masked events that this one leads to; raises Withheld."""
        self._plain_id(event)
        if not event.data:
            return self.delivered(Event(event.data, retry=event.retry).encode())
        if self._stream is None:
            self._stream = self._begun(self._reader)
            self._kept_stream = self._stream if self._reader == self._record else self._begun(self._record)
        sent = self._stream.event(event.kind, event.data)
        self._keep_events(sent, event)
        return self._written(sent)

    def rest(self) -> bytes:
        """Return what is held back still when the stream is over."""
        if self._stream is None:
            return b""
        sent = self._stream.end()
        self._keep_events(sent, None)
        return self._written(sent)

    def ending(self, refusal: Withheld, reference: str) -> bytes:
        """Return the event with which a stream ends of which the rest is withheld."""
        kind, data = stream_error(self._dialect, self._endpoint, Told(refusal.for_caller, refusal.code, reference))
        return Event(data, kind=kind).encode()

    def facts(self) -> dict[str, object]:
        """Return what the outcome record says."""
        streamed = Counter() if self._stream is None else self._stream.counts
        return super().facts() | {"masked": dict(self._counts + streamed)}

    def _message(self, text: str, value: Json, *, streamed: bool) -> str:  # noqa: ARG002 (whole)
        delivered = masked_whole(self._dialect, self._endpoint, text, value, self._reader, self._counts)
        self._keep(delivered if self._record == self._reader else self._whole_for_record(text, value))
        return delivered

    def _whole_for_record(self, text: str, value: Json) -> str:
        try:
            return masked_whole(self._dialect, self._endpoint, text, value, self._record)
        except SodError as error:
            return f"[not kept: {error.sentence}]"

    def _begun(self, masks: Masks) -> ModelStream:
        return ModelStream(self._dialect, self._endpoint, masks, self._limit, max_depth=self._depth)

    def _keep_events(self, sent: list[Sent], event: Event | None) -> None:
        """Keep for the record what its own masks leave of the stream."""
        kept = self._kept_stream
        if kept is not None and kept is not self._stream:
            try:
                sent = kept.end() if event is None else kept.event(event.kind, event.data or "")
            except SodError as error:  # its reader may have it, the record may not
                self._kept_stream = None
                sent = [(None, f"[not kept: {error.sentence}]")]
        if kept is not None:
            self._keep("".join(f"{data}\n" for _, data in sent))

    def _written(self, sent: list[Sent]) -> bytes:
        return self.delivered(b"".join(Event(data, kind=kind).encode() for kind, data in sent))
