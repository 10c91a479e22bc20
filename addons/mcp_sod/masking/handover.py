"""The reply to a call whose result goes to someone else: masked for that one, while its sender gets a receipt."""

import hashlib
from collections.abc import Iterable
from dataclasses import replace

from mcp_sod.errors import Withheld
from mcp_sod.exchange import Exchange
from mcp_sod.masking.answers import Answer
from mcp_sod.masking.masks import Masks
from mcp_sod.masking.message import MaskedMessage
from mcp_sod.policy.handovers import COLLECT
from mcp_sod.wire.receipts import Handed, Outcome, asks_back, bare_progress, outcome_text, receipt_text
from mcp_sod.wire.replies import check_reply, tags
from mcp_sod.wire.splice import splice
from mcp_sod.wire.sse import Event
from mcp_sod.wire.strict_json import Json, dumps

_HEADERS = frozenset({b"content-type", b"content-length", b"mcp-session-id", b"mcp-protocol-version"})


class HandedOver(Answer):
    """Gives the sender a receipt, and what the server asks meanwhile; the outcome goes to `exchange.kept`."""

    def __init__(self, exchange: Exchange, handed: Handed, taker: Masks, reader: Masks, record: Masks) -> None:
        """`taker`: the masks for whoever collects; `reader`: those for the sender."""
        super().__init__(exchange, reader, record)
        self.status = 200
        self._exchange = exchange
        self._receipt = handed.receipt
        self._taker = taker
        self._sent = replace(self._call, request_id=handed.alias)
        self._told = False

    def facts(self) -> dict[str, object]:
        """Return what the outcome record says; of what is kept its digest as well."""
        kept = self._exchange.kept
        return super().facts() | {"kept": None if kept is None else hashlib.sha256(kept).hexdigest()}

    def event(self, event: Event) -> bytes:
        """Return the bytes of what the sender gets; event ids are none of it, for the answer could be read by them."""
        if event.kind not in (None, "message"):
            raise Withheld("The reply has an event of a type that MCP does not use.")
        if not event.data:
            return b""
        said = self._message(event.data, self._parsed(event.data), streamed=True)
        return self.delivered(Event(said, kind=event.kind).encode()) if said else b""

    def rest(self) -> bytes:
        """Return the end of a stream on which no answer came."""
        if self._told:
            return b""
        return self.delivered(Event(self._receipted("nothing"), kind="message").encode())

    def ending(self, refusal: Withheld, reference: str) -> bytes:
        """Return the event with which a stream ends, unless the sender has an answer already."""
        return b"" if self._told else super().ending(refusal, reference)

    def _message(self, text: str, value: Json, *, streamed: bool) -> str:
        message = check_reply(value, self._sent, self._talk, streamed=streamed, late=False)
        if "method" in message:
            return self._meanwhile(text, message)
        if self._answered:
            raise Withheld("The upstream answered twice.")
        self._answered = True
        if self._on_result is not None:
            self._on_result(message)
        text = splice(text, {("id",): dumps(self._call.request_id)})
        message = {**message, "id": self._call.request_id}
        if asks_back(message, self._call):
            self._exchange.asked_back = self._told = True
            return self._tagged(text, message)
        return self._outcome(text, message)

    def _meanwhile(self, text: str, message: dict[str, Json]) -> str:
        """Return what the sender gets of a message that is no answer: the server's questions, and bare progress."""
        if "id" in message:
            return self._tagged(text, message)
        bare = bare_progress(text, message, self._call)
        return "" if bare is None else self._masked(bare, self._parsed(bare))

    def _tagged(self, text: str, message: dict[str, Json]) -> str:
        masked = self._masked(text, message)
        if masked != text:
            message = check_reply(self._parsed(masked), self._call, self._talk, streamed=True, late=False)
        changes = tags(message, self._standing.owner)
        return splice(masked, changes) if changes else masked

    def _outcome(self, text: str, message: dict[str, Json]) -> str:
        masked = MaskedMessage(self._taker, False, self._counts, per_character=self._per_character).text(text, message)  # noqa: FBT003 (no list of tools)
        self._keep(masked if self._record == self._taker else self._for_record(text, message, listing=False))
        self._exchange.kept = outcome_text(masked, message).encode()
        result = message.get("result")
        failed = "error" in message or (isinstance(result, dict) and result.get("isError", False) is not False)
        return self._receipted("failure" if failed else "result")

    def _receipted(self, outcome: Outcome) -> str:
        self._told = True
        return receipt_text(self._call, self._receipt, outcome, self.status, COLLECT)


def bare_head(fields: Iterable[tuple[bytes, bytes]]) -> tuple[tuple[bytes, bytes], ...]:
    """Return the headers of such a reply that say nothing of what is in it."""
    return tuple(field for field in fields if field[0].lower() in _HEADERS)
