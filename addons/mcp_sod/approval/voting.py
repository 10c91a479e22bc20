"""Who may vote, and what the votes come to. No role is exempt from any of this, admins included."""

from collections.abc import Iterable
from typing import Literal

from mcp_sod.errors import TicketError
from mcp_sod.exchange import Principal
from mcp_sod.approval.tickets import Need, State, Ticket, Vote


def objection(ticket: Ticket, voter: Principal, roles: frozenset[str], votes: list[Vote], policy: str, now: int) -> TicketError | None:
    """Return why this person may not vote on this ticket, or None.

    `roles`: the voter's roles by the policy of the moment, whose digest is `policy`; `now`: seconds since the epoch.
    """
    wanted = sorted({need.role for need in ticket.needs})
    if voter.kind == "machine":
        return TicketError("Machines do not vote.", hint="A person must.")
    if not roles.intersection(wanted):
        return TicketError(f"A vote on this ticket needs the role {' or '.join(wanted)}, which you do not have.")
    if not voter.person:
        return TicketError("Your token does not say which person you are.", hint="See identity.claims.person in the policy.")
    if voter.behind & ticket.behind:
        return TicketError("You are behind this request yourself; another person must decide.")
    if any(voter.behind & vote.behind for vote in votes):
        return TicketError("You have voted on this ticket already.")
    if ticket.state != "pending":
        return TicketError(f"This ticket is {ticket.state} already.")
    if ticket.expires <= now:
        return TicketError("This ticket has expired.")
    if ticket.policy != policy:
        return TicketError("The policy has changed since this ticket was opened.", hint="The call must be sent again.")
    return None


def outcome(needs: Iterable[Need], votes: list[Vote], decision: Literal["approve", "deny"]) -> State:
    """Return the ticket's state after the last of the votes: one no denies; every need must be met to approve.

    Votes count people: a person's votes from two accounts were refused when they were cast.
    """
    if decision == "deny":
        return "denied"
    met = all(sum(need.role in vote.roles for vote in votes if vote.decision == "approve") >= need.votes for need in needs)
    return "approved" if met else "pending"
