"""Separation by object on the flow: an early look before anyone is asked, and the claim before the call leaves."""

import time
from typing import cast

from mitmproxy import http

from mcp_sod.exchange import Exchange, Principal
from mcp_sod.gate import Gate
from mcp_sod.separation.memory import Memory
from mcp_sod.separation.objects import Acting, acts_of, concerned
from mcp_sod.separation.outcome import Outcome
from mcp_sod.stage import Stage, on_reply, on_request, worked_out
from mcp_sod.wire.mcp import Call


class Separation(Stage):
    """Refuses what claims would refuse, before approvers are asked for it."""

    def __init__(self, gate: Gate, memory: Memory) -> None:
        """`memory` keeps who did what."""
        super().__init__(gate)
        self._memory = memory

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Raise Conflict for a call that does a second duty to an object."""
        acting = await _acting(exchange)
        if acting is not None:
            await self._memory.do(self._memory.check, acting, int(time.time()))
        exchange.separated = True


class Claims(Stage):
    """Remembers who does what to which object, before it is done; what the result tells is put in when it comes."""

    def __init__(self, gate: Gate, memory: Memory) -> None:
        """`memory` keeps who did what."""
        super().__init__(gate)
        self._memory = memory

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Check again and claim, in one; listen for the result where only that tells the object."""
        acting = await _acting(exchange)
        if acting is not None:
            await self._memory.do(self._memory.claim, acting, int(time.time()))
            if any(act.objects is None for act in acting.acts):
                exchange.on_result = Outcome(acting, exchange.policy.gateway.limits.depth)
        exchange.claimed = True

    @on_reply
    async def response(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Settle what was open by what the result said; while that cannot be written, the reply is withheld."""
        outcome = exchange.on_result
        if isinstance(outcome, Outcome) and flow.response is not None:
            settled = outcome.settled(flow.response.status_code)
            if settled:
                await self._memory.do(self._memory.settle, outcome.acting, settled)

    async def over(self, flow: http.HTTPFlow) -> None:
        """Settle what has no reply to wait for: a call that never left, a stream that its client hung up on."""
        passage = self.gate.passage(flow)
        outcome = passage.exchange.on_result if passage.exchange else None
        if not isinstance(outcome, Outcome):
            return
        if not passage.sent or (flow.error and not flow.response and flow.server_conn.timestamp_tcp_setup is None):
            settled = outcome.undone
        else:
            ended = flow.response if flow.error and outcome.answered else None
            settled = outcome.settled(ended.status_code) if ended else {}
        if settled:
            await self._memory.do(self._memory.settle, outcome.acting, settled)


async def _acting(exchange: Exchange) -> Acting | None:
    """Return what the call does, or None if no rule concerns it; raises Denied where its objects cannot be told."""
    call, upstream = cast("Call", exchange.call), cast("str", exchange.upstream_name)
    if call.tool is None:
        return None
    rules, duties = concerned(exchange.policy, upstream, call.tool)
    if not rules:
        return None
    params = call.message.get("params")
    arguments = params.get("arguments", {}) if isinstance(params, dict) else {}
    acts = await worked_out(len(exchange.request.body), acts_of, upstream, call.tool, duties, arguments)
    return Acting(exchange.reference, cast("Principal", exchange.principal).behind, acts, rules)
