"""Audit on the flow: the intent is durable before a call leaves, the outcome before its reply is delivered."""

from collections.abc import Callable

from mitmproxy import http

from mcp_sod.contracts import Journal
from mcp_sod.errors import AuditError, Unavailable, Withheld
from mcp_sod.exchange import Allow, Exchange, Undecided
from mcp_sod.gate import Gate
from mcp_sod.stage import Stage, on_reply, on_request
from mcp_sod.wire.receipts import Handed


class Audit(Stage):
    """Records what is forwarded and what came of it; no record, no call."""

    def __init__(self, gate: Gate, journal: Journal, obstacle: Callable[[], str | None]) -> None:
        """`journal` takes the records; `obstacle` says why the store takes none for now (`audit.when_unavailable`)."""
        super().__init__(gate)
        self._journal = journal
        self._obstacle = obstacle

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Record the intent."""
        if not isinstance(exchange.verdict, Allow):
            raise Unavailable(
                "The call was not decided upon." if isinstance(exchange.verdict, Undecided) else "Not allowed."
            )
        obstacle = self._obstacle()
        if obstacle is not None:
            raise Unavailable("The audit store takes no records for now.", hint="Try again later.", operator=obstacle)
        if exchange.declined is None:
            await self._write("forwarded", **exchange.facts(), request=exchange.shown)
        else:
            reason = {"code": "declined", "reason": exchange.declined}
            await self._write("denied", **exchange.facts(), **reason, request=exchange.shown)
        exchange.recorded = True

    @on_reply
    async def response(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Record the outcome; a reply that was streamed is at the client already, event by event."""
        if isinstance(exchange.recipient, Handed) and not exchange.settled:
            raise Withheld("The result was not kept for whom it is.")
        status = flow.response.status_code if flow.response else None
        await self._write("replied", **exchange.bearings(), status=status, **exchange.reply())
        self.gate.finish(flow)

    async def _write(self, event: str, **facts: object) -> None:
        try:
            await self._journal.write(event, **facts)
        except AuditError as error:
            sentence = "No record could be written, so nothing goes through."
            raise Unavailable(sentence, hint=error.hint, operator=error.sentence) from None
