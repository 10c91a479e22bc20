"""Tickets in the database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest
from mcp_sod.approval.tickets import Need, State, Tickets
from mcp_sod.database import Database

from tests.unit.approval.making import DIGEST, ticket_of, vote_of
from tests.unit.making import principal_of

STATES: tuple[State, ...] = get_args(State.__value__)
ALICE = principal_of("alice").account


@pytest.fixture
def tickets(tmp_path: Path) -> Iterator[Tickets]:
    """A fresh ticket file."""
    opened = Tickets(Database(tmp_path / "state" / "tickets.sqlite"))
    yield opened
    opened.database.close()


def state_of(tickets: Tickets, ticket_id: str = "t-1") -> State:
    """The ticket's state as the file has it."""
    found = tickets.get(ticket_id)
    assert found is not None
    return found.state


@pytest.mark.parametrize("is_in", STATES)
def test_a_move_needs_the_old_state(tickets: Tickets, is_in: State) -> None:
    """From whichever state to whichever, a ticket moves only if it is in the one that it is said to be in."""
    for old in STATES:
        for new in STATES:
            tickets.open(ticket_of(one := f"{old}-{new}", state=is_in, digest=one))
            assert tickets.move(one, old, new, 1500) is (is_in == old)
            assert state_of(tickets, one) == (new if is_in == old else is_in)


@pytest.mark.parametrize("state", STATES)
def test_a_vote_needs_a_pending_ticket(tickets: Tickets, state: State) -> None:
    """A vote on anything but a pending ticket leaves neither vote nor change: a late yes overwrites no no."""
    ticket = ticket_of(state=state)
    tickets.open(ticket)
    assert tickets.vote(ticket, vote_of(), "approved", 0) is (state == "pending")
    assert state_of(tickets) == ("approved" if state == "pending" else state)
    assert len(tickets.votes("t-1")) == (state == "pending")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize("now", [1999, 2000])
def test_expiry(tickets: Tickets, state: State, now: int) -> None:
    """At its time a pending or approved ticket expires, not before, and no other ever does."""
    ticket = ticket_of(state=state)
    tickets.open(ticket)
    due = now == 2000 and state in ("pending", "approved")
    assert [found.id for found in tickets.overdue(now)] == ["t-1"] * due
    tickets.expire(ticket, now)
    if due:
        assert state_of(tickets) == "expired"
    elif now < 2000:
        assert state_of(tickets) == state


def test_a_grant_is_over_with_its_ticket(tickets: Tickets) -> None:
    """An approval is used before its time is over, or not at all; a vote comes before it, or not at all."""
    tickets.open(ticket_of("t-1", state="approved"))
    assert not tickets.move("t-1", "approved", "used", 2000)
    pending = ticket_of("t-2", digest="e" * 64)
    tickets.open(pending)
    assert not tickets.vote(pending, vote_of(at=2000), "approved", 0)
    assert tickets.votes("t-2") == []
    assert tickets.move("t-1", "approved", "used", 1999)
    assert tickets.vote(pending, vote_of(at=1999), "approved", 0)


def test_an_expired_ticket_that_was_voted_on_meanwhile_stays(tickets: Tickets) -> None:
    """Expiry, too, is guarded by the state that was seen."""
    seen = ticket_of()
    tickets.open(seen)
    tickets.move("t-1", "pending", "denied", 1500)
    tickets.expire(seen, 2000)
    assert state_of(tickets) == "denied"


def test_a_grant_is_used_once_however_many_try(tmp_path: Path) -> None:
    """Of many threads, on two connections, that use one grant at once, exactly one succeeds."""
    pair = [Tickets(Database(tmp_path / "tickets.sqlite")) for _ in range(2)]
    for round_ in range(5):
        pair[0].open(ticket_of(f"t-{round_}", state="approved", digest=f"{round_}" * 64))
        with ThreadPoolExecutor(8) as threads:
            used = threads.map(
                lambda n, ticket=f"t-{round_}": pair[n % 2].move(ticket, "approved", "used", 1500), range(16)
            )
        assert sum(used) == 1
    for one in pair:
        one.database.close()


def test_votes_count_what_they_saw(tmp_path: Path) -> None:
    """Of many votes cast at once on the same picture of a ticket, one counts; the others must look again."""
    pair = [Tickets(Database(tmp_path / "tickets.sqlite")) for _ in range(2)]
    ticket = ticket_of(needs=(Need("r", "approver", 9, 1000),))
    pair[0].open(ticket)
    with ThreadPoolExecutor(8) as threads:
        taken = list(threads.map(lambda n: pair[n % 2].vote(ticket, vote_of(f"v{n}"), "pending", 0), range(8)))
    assert sum(taken) == 1
    assert len(pair[0].votes("t-1")) == 1
    for one in pair:
        one.database.close()


def test_an_account_votes_once(tickets: Tickets) -> None:
    """A second vote of one account is not taken, and the first one stays as it was."""
    ticket = ticket_of()
    tickets.open(ticket)
    assert tickets.vote(ticket, vote_of("bob"), "pending", 0)
    assert not tickets.vote(ticket, vote_of("bob", "deny"), "denied", 1)
    assert [vote.decision for vote in tickets.votes("t-1")] == ["approve"]
    assert state_of(tickets) == "pending"


def test_one_ticket_waits_for_a_call(tickets: Tickets) -> None:
    """A copy of a call opens no second ticket; another call, person or policy does, and the same after its end."""
    assert tickets.open(ticket_of("t-1"))
    assert not tickets.open(ticket_of("t-2"))
    assert tickets.get("t-2") is None
    assert tickets.open(ticket_of("t-3", digest="e" * 64))
    assert tickets.open(ticket_of("t-4", bound="someone else"))
    assert tickets.open(ticket_of("t-5", policy="p2"))
    tickets.move("t-1", "pending", "denied", 1500)
    assert tickets.open(ticket_of("t-6"))


@pytest.mark.parametrize(
    ("state", "now", "found"),
    [
        ("pending", 1999, True), ("approved", 1999, True), ("denied", 1999, True), ("used", 1999, False),
        ("expired", 1999, False), ("cancelled", 1999, False), ("pending", 2000, False), ("approved", 2000, False),
    ],
)  # fmt: skip
def test_what_a_repeated_call_continues(tickets: Tickets, state: State, now: int, found: bool) -> None:
    """A repeat continues a ticket that is pending, approved or denied and not over; a used grant is no grant."""
    ticket = ticket_of(state=state)
    tickets.open(ticket)
    assert tickets.find(ALICE, DIGEST, "p1", now) == (ticket if found else None)


@pytest.mark.parametrize(
    ("account", "digest", "policy"), [("x", DIGEST, "p1"), (ALICE, "e" * 64, "p1"), (ALICE, DIGEST, "p2")]
)
def test_a_grant_is_nobody_elses(tickets: Tickets, account: str, digest: str, policy: str) -> None:
    """Another account, another call, or another policy does not continue a ticket."""
    tickets.open(ticket_of(state="approved"))
    assert tickets.find(ALICE, DIGEST, "p1", 1500)
    assert tickets.find(account, digest, policy, 1500) is None


def test_tickets_outlive_a_restart(tmp_path: Path) -> None:
    """Every field of tickets and votes is as it was after the file is opened again."""
    file = tmp_path / "tickets.sqlite"
    before = Tickets(Database(file))
    ticket = ticket_of(target=None, needs=(Need("a", "x", 1, 5), Need("b", "y", 2, 6)), shown="é𝔘\u2028")
    before.open(ticket)
    before.vote(ticket, vote_of(), "pending", 0)
    before.database.close()
    after = Tickets(Database(file))
    found = after.get("t-1")
    assert found is not None
    assert {name: getattr(found, name) for name in type(found).__slots__ if name != "changed"} == {
        name: getattr(ticket, name) for name in type(ticket).__slots__ if name != "changed"
    }
    assert after.votes("t-1") == [vote_of()]
    after.database.close()


def test_lists(tickets: Tickets) -> None:
    """The newest come first, of one state or of all, no more than asked for; settled are those that no longer wait."""
    for n, state in enumerate(STATES):
        tickets.open(ticket_of(f"t-{n}", state=state, created=1000 + n, digest=f"{n}" * 64))
    assert [ticket.state for ticket in tickets.newest(None, 3)] == list(reversed(STATES))[:3]
    assert [ticket.state for ticket in tickets.newest("denied", 9)] == ["denied"]
    assert tickets.newest("nonsense", 9) == []
    assert tickets.settled(("t-0", "t-1", "t-9")) == {"t-1"}
