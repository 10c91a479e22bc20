"""Who may vote, and what the votes come to. No role is exempt from any of this, admins included."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from mcp_sod.approval.tickets import Need, State, Ticket, Vote
from mcp_sod.errors import TicketError
from mcp_sod.exchange import Principal

type Decision = Literal["approve", "deny"]


@dataclass(frozen=True, slots=True)
class Voter:
    """Who wants to vote, with the roles that the policy of this moment (its digest) gives."""

    principal: Principal
    roles: frozenset[str]
    policy: str

    def may_see(self, ticket: Ticket) -> bool:
        """Say whether the ticket is theirs to vote on, or their own."""
        wanted = {need.role for need in ticket.needs}
        return bool(self.principal.behind & ticket.behind) or not self.roles.isdisjoint(wanted)


@dataclass(frozen=True, slots=True)
class Ballot:
    """What the voter says, of the call with the digest that the voter saw."""

    decision: Decision
    digest: str
    reason: str


def objection(ticket: Ticket, voter: Voter, votes: list[Vote], now: int) -> TicketError | None:
    """Return why this person may not vote on this ticket, or None; `now` in seconds since the epoch."""
    return next(_objections(ticket, voter, votes, now), None)


def _objections(ticket: Ticket, voter: Voter, votes: list[Vote], now: int) -> Iterator[TicketError]:
    who, wanted = voter.principal, sorted({need.role for need in ticket.needs})
    if who.kind == "machine":
        yield TicketError("Machines do not vote.", hint="A person must.")
    if who.behind & ticket.behind:
        yield TicketError("You are behind this request yourself; another person must decide.")
    if voter.roles.isdisjoint(wanted):
        yield TicketError(f"A vote on this ticket needs the role {' or '.join(wanted)}, which you do not have.")
    if not who.person:
        yield TicketError("Your token does not say which person you are.", hint="See claims.person in the policy.")
    if any(who.behind & vote.behind for vote in votes):
        yield TicketError("You have voted on this ticket already.")
    if ticket.state != "pending":
        yield TicketError(f"This ticket is {ticket.state} already.")
    if ticket.expires <= now:
        yield TicketError("This ticket has expired.")
    if ticket.policy != voter.policy:
        yield TicketError("The policy has changed since this ticket was opened.", hint="The call must be sent again.")


def outcome(needs: Iterable[Need], votes: list[Vote]) -> State:
    """Return the ticket's state after these votes: one no denies, and every need must be met to approve.

    Votes count people: a person's second vote, from whichever account, was refused when it was cast.
    """
    if any(vote.decision == "deny" for vote in votes):
        return "denied"
    met = all(sum(need.role in vote.roles for vote in votes) >= need.votes for need in needs)
    return "approved" if met else "pending"
