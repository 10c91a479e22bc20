"""Approval on the flow."""

import time
from typing import cast

from mitmproxy import http

from mcp_sod.approval.desk import Desk
from mcp_sod.approval.tickets import Ticket
from mcp_sod.errors import Denied, Held
from mcp_sod.exchange import Allow, Exchange, Hold, Principal
from mcp_sod.gate import Gate
from mcp_sod.stage import Stage, on_request, worked_out
from mcp_sod.wire.mcp import Call


class Approval(Stage):
    """Holds risky calls, opens tickets, waits, and honours each grant once."""

    def __init__(self, gate: Gate, desk: Desk) -> None:
        """`desk` keeps the tickets."""
        super().__init__(gate)
        self._desk = desk

    @on_request
    async def request(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Turn a Hold into an Allow with a grant, or refuse."""
        call = cast("Call", exchange.call)
        upstream = cast("str", exchange.upstream_name)
        exchange.digest = await worked_out(len(exchange.request.body), call.digest, upstream)
        _check_standing(exchange)
        hold = exchange.verdict
        if not isinstance(hold, Hold):
            return
        if not call.is_request:
            raise Denied("A notification cannot wait for approval.", hint="Leave out what the policy calls risky.")
        if exchange.uncovered:
            raise Denied(
                "Something risky stands in a part of this call that no approval covers (its id, or a header).",
                hint="Leave it out there.",
            )
        if not exchange.shown_whole:
            raise Denied(
                "This call needs approval, but it cannot be shown whole to an approver.",
                hint="Send less text in one call, nothing binary, and no secret in disguise or as a name.",
            )
        ticket = await self._desk.ticket_for(exchange, hold)
        exchange.ticket = ticket.id
        patience = exchange.policy.gateway.limits.hold
        ticket = await self._desk.wait(ticket, patience, lambda: exchange.barred() is not None)
        _check_standing(exchange)
        if ticket.state == "approved" and not flow.client_conn.connected:
            raise Held("The caller has left.", hint="Its approval is kept for when it comes back.")
        if cast("Principal", exchange.principal).expires <= time.time():
            raise Denied("Your token expired while the call waited.", hint="Send the same call with a new token.")
        await self._decide(ticket, exchange)

    async def _decide(self, ticket: Ticket, exchange: Exchange) -> None:
        match ticket.state:
            case "approved":
                flaw = await self._desk.flaw(ticket, exchange)
                if flaw is not None:
                    raise Denied(f"The approval of ticket {ticket.id} does not count: {flaw}")
                if not await self._desk.use(ticket, exchange):
                    raise Denied(f"The approval of ticket {ticket.id} has been used already or is over.")
                exchange.verdict = Allow(ticket.id)
            case "pending":
                raise Held(
                    f"This call needs approval and waits as ticket {ticket.id}.",
                    hint="Send the same call again to continue once it is approved.",
                )
            case "denied":
                raise Denied(f"An approver said no to this call (ticket {ticket.id}).")
            case "used":
                raise Denied(f"The approval of ticket {ticket.id} has been used already.")
            case _:
                raise Denied(f"Ticket {ticket.id} is {ticket.state}.", hint="Send the call again for a new one.")


def _check_standing(exchange: Exchange) -> None:
    """Raise the refusal of a principal who was revoked since the token was looked at."""
    barred = exchange.barred()
    if barred is not None:
        raise barred
