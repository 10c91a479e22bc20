"""Delivery on the flow: who gets a result is decided with the roles, and durable before the call leaves."""

import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from typing import cast

from mitmproxy import http

from mcp_sod.delivery.deliveries import Deliveries
from mcp_sod.delivery.receipts import Collector, recipient, wanted
from mcp_sod.errors import Denied, TicketError, Unavailable
from mcp_sod.exchange import Exchange, Principal, Standing
from mcp_sod.gate import Gate
from mcp_sod.policy.handovers import poses_as_collecting
from mcp_sod.stage import Stage, on_reply, on_request, worked_out
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.receipts import Handed, collected_text
from mcp_sod.wire.splice import splice
from mcp_sod.wire.strict_json import dumps, parse_text


class Recipient(Stage):
    """Decides who gets the result: the sender, or whoever holds a role."""

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Fill in the recipient."""
        call, upstream = cast("Call", exchange.call), cast("str", exchange.upstream_name)
        exchange.recipient = recipient(exchange.policy, upstream, call, int(time.time()))


class Delivery(Stage):
    """Has results kept that go to someone else, and gives them out."""

    def __init__(self, gate: Gate, deliveries: Deliveries, obstacle: Callable[[], str | None]) -> None:
        """`deliveries` keeps them; `obstacle` says why no records can be taken for now."""
        super().__init__(gate)
        self._deliveries = deliveries
        self._obstacle = obstacle

    @on_request
    async def request(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Have the result expected, or answer a call that collects one."""
        call, upstream = cast("Call", exchange.call), cast("str", exchange.upstream_name)
        if not exchange.judged:
            raise Unavailable("The call was not decided upon.")
        if call.tool is not None and poses_as_collecting(exchange.policy, upstream, call.tool):
            await self._collect(exchange, flow)
            return
        if isinstance(exchange.recipient, Handed):
            await self._deliveries.expect(exchange, self._over(flow))
            standing, alias = cast("Standing", exchange.standing), exchange.recipient.alias
            size = len(exchange.request.body)
            exchange.standing = await worked_out(size, _aliased, exchange.request.body, standing, alias)
        exchange.awaited = True

    async def _collect(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        call, upstream = cast("Call", exchange.call), cast("str", exchange.upstream_name)
        if self.gate.runtime is None or self.gate.runtime.policy is not exchange.policy:
            raise Denied("The policy has changed meanwhile.", hint="Send the call again.")
        barred, obstacle = exchange.barred(), self._obstacle()
        if barred is not None:
            raise barred
        if obstacle is not None:
            raise Unavailable("The audit store takes no records for now.", hint="Try again later.", operator=obstacle)
        exchange.collects = wanted(call)
        who = Collector(cast("Principal", exchange.principal), exchange.roles or frozenset(), exchange.policy.digest)
        try:
            _, body = await self._deliveries.collect(exchange.collects, who, exchange.bearings(), upstream=upstream)
        except TicketError as error:
            raise Denied(error.sentence, hint=error.hint) from None
        text = body.decode()
        answer = await worked_out(len(text), lambda: collected_text(call, text, parse_text(text)))
        self.gate.settle(flow, 200, answer.encode(), {"content-type": "application/json", "cache-control": "no-store"})

    def _over(self, flow: http.HTTPFlow) -> Callable[[], bool]:
        known, gate = weakref.ref(flow), self.gate

        def over() -> bool:
            there = known()
            return there is None or gate.passage(there).finished

        return over

    @on_reply
    async def response(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Keep the result before its sender gets the receipt, or, of a stream, at its end."""
        handed = exchange.recipient
        if isinstance(handed, Handed):
            await self._deliveries.settle(handed.receipt.id, exchange.kept, asked_back=exchange.asked_back)
        exchange.settled = True


def _aliased(body: bytes, standing: Standing, alias: str) -> Standing:
    """Return where the call stands, with an id of the gateway's own in what goes upstream."""
    outgoing = standing.outgoing
    text = (body if outgoing.body is None else outgoing.body).decode()
    return replace(standing, outgoing=replace(outgoing, body=splice(text, {("id",): dumps(alias)}).encode()))
