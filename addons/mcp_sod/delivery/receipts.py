"""Who gets the result of a call, and who may collect one that is kept. No role is exempt from any of this."""

import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mcp_sod.delivery.shelf import Parcel
from mcp_sod.errors import Conflict, Denied, SodError, TicketError
from mcp_sod.exchange import Principal
from mcp_sod.policy.handovers import handover, poses_as_collecting
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.receipts import Handed, Receipt, untasked

_RECEIPT = re.compile(r"r-[0-9a-f]{16}")


@dataclass(frozen=True, slots=True)
class Collector:
    """Who wants to collect, with the roles that the policy of this moment (its digest) gives."""

    principal: Principal
    roles: frozenset[str]
    policy: str


def recipient(policy: Policy, upstream: str, call: Call, now: int) -> Literal["sender"] | Handed:
    """Return who gets the call's result: its sender, or whoever holds a role; raises Denied. `now` in seconds."""
    if call.tool is None or poses_as_collecting(policy, upstream, call.tool):
        return "sender"  # `sod_collect` itself is answered by the gateway
    rule = handover(policy, upstream, call.tool)
    if rule is None:
        return "sender"
    if not untasked(call.message.get("params")):
        raise Denied(
            f"The result of this tool goes to the role {rule.to}, and a task's result would come to its sender.",
            hint="Send the call without a task.",
        )
    receipt = Receipt(f"r-{secrets.token_hex(8)}", rule.to, now + int(rule.within))
    return Handed(receipt, f"s-{secrets.token_hex(16)}")


def wanted(call: Call) -> str:
    """Return the receipt that a call of the gateway's own tool names; raises Denied."""
    params = call.message.get("params")
    arguments = params.get("arguments") if isinstance(params, dict) else None
    receipt = arguments.get("receipt") if isinstance(arguments, dict) and len(arguments) == 1 else None
    if not isinstance(receipt, str) or _RECEIPT.fullmatch(receipt) is None:
        raise Denied("This tool takes one argument, receipt, such as r-0123456789abcdef.")
    return receipt


def objection(parcel: Parcel, collector: Collector, now: int) -> SodError | None:
    """Return why this person may not collect this, or None; `now` in seconds since the epoch."""
    return next(_objections(parcel, collector, now), None)


def _objections(parcel: Parcel, collector: Collector, now: int) -> Iterator[SodError]:
    who, role = collector.principal, parcel.role
    if who.behind & parcel.behind:
        sentence = f"You are behind this call yourself, and delivery keeps its sender and its {role} apart."
        yield Conflict(sentence, hint=f"Another person with the role {role} must collect the result.")
    if role not in collector.roles:
        mine = f"your roles are {', '.join(sorted(collector.roles))}" if collector.roles else "you have no role"
        yield Denied(f"This result goes to the role {role}: {mine}.", hint="Ask for that role.")
    if not who.person | who.actors:
        yield Denied("Your token does not say which person you are.", hint="See claims.person in the policy.")
    if parcel.expires <= now or parcel.state == "expired":
        yield TicketError("The time to collect this result is over.", hint="The call must be sent again.")
    match parcel.state:
        case "expected":
            yield TicketError("The result has not come yet.", hint="Try again later.")
        case "collected":
            yield TicketError("This result was collected already.", hint="The call must be sent again.")
        case "continued":
            yield TicketError("The server asked the sender something: the call went on under another receipt.")
        case "lost":
            yield TicketError("No result came that could be kept.", hint="The call must be sent again.")
