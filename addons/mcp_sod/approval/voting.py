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
    if who.delegated:
        yield TicketError("Your token is for someone who acts for you (act).", hint="Vote yourself, with your own.")
    if shared := who.behind & ticket.behind:
        yield TicketError(
            f"You are behind this request yourself (by {', '.join(sorted(shared))}): who asks and who approves are "
            "different people.", hint="Another person must decide.",
        )  # fmt: skip
    if voter.roles.isdisjoint(wanted):
        needed = f"A vote on this ticket needs the role {' or '.join(wanted)}, which you do not have."
        yield TicketError(needed, hint="Another person with the role must vote.")
    if not who.person:
        yield TicketError("Your token does not say which person you are.", hint="See claims.person in the policy.")
    if any(who.behind & vote.behind for vote in votes):
        yield TicketError("You have voted on this ticket already.", hint="Another person with the role must vote.")
    if ticket.state != "pending":
        yield TicketError(f"This ticket is {ticket.state} already.")
    if ticket.expires <= now:
        yield TicketError("This ticket has expired.")
    if ticket.policy != voter.policy:
        yield TicketError("The policy has changed since this ticket was opened.", hint="The call must be sent again.")


def outcome(needs: Iterable[Need], votes: list[Vote]) -> State:
    """Return the ticket's state after these votes: one no denies, and every need must be met to approve.

    Votes count people: a person's second vote, from whichever account, was refused when it was cast; and whoever has
    two of the roles that are asked for stands for one of them. Rules that ask for one role share its votes.
    """
    if any(vote.decision == "deny" for vote in votes):
        return "denied"
    most: dict[str, int] = {}
    for need in needs:
        most[need.role] = max(need.votes, most.get(need.role, 0))
    seats = [role for role, number in most.items() for _ in range(number)]
    return "approved" if _all_taken(seats, [vote.roles for vote in votes]) else "pending"


def _all_taken(seats: list[str], people: list[frozenset[str]]) -> bool:
    """Say whether there is someone for each seat (a role), and nobody on two (a matching, by augmenting paths)."""
    taken: dict[int, int] = {}  # by whom a seat is taken

    def seated(person: int, seen: set[int]) -> bool:
        for seat, role in enumerate(seats):
            if role in people[person] and seat not in seen:
                seen.add(seat)
                if seat not in taken or seated(taken[seat], seen):
                    taken[seat] = person
                    return True
        return False

    return sum(seated(person, set()) for person in range(len(people))) == len(seats)
