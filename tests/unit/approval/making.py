"""Tickets, voters and a desk for the tests of approval."""

from typing import Any

from mcp_sod.approval.tickets import Need, Ticket, Vote
from mcp_sod.approval.voting import Voter

from tests.unit.making import principal_of

DIGEST = "d" * 64


def ticket_of(ticket_id: str = "t-1", **changed: Any) -> Ticket:
    """A pending ticket of alice's, opened at 1000, good until 2000, that needs one approver."""
    alice = principal_of("alice")
    facts: dict[str, Any] = {
        "id": ticket_id,
        "state": "pending",
        "created": 1000,
        "changed": 1000,
        "expires": 2000,
        "account": alice.account,
        "bound": alice.account,
        "behind": alice.behind,
        "marks": frozenset({("person", "alice@example.com")}),
        "upstream": "tools",
        "method": "tools/call",
        "target": "query",
        "digest": DIGEST,
        "policy": "p1",
        "findings": ("key at arguments:/sql (high)",),
        "needs": (Need("key", "approver", 1, 1000),),
        "shown": '{"masked":"call"}',
    }
    return Ticket(**facts | changed)


def vote_of(who: str = "bob", decision: str = "approve", at: int = 1500) -> Vote:
    """A vote of an approver's."""
    voter = principal_of(who)
    return Vote(voter.account, voter.behind, voter.marks, frozenset({"approver"}), decision, "", at)  # type: ignore[arg-type]


def voter_of(who: str = "bob", *, roles: tuple[str, ...] = ("approver",), policy: str = "p1", **facts: Any) -> Voter:
    """Someone who wants to vote."""
    return Voter(principal_of(who, **facts), frozenset(roles), policy)
