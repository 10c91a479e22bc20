"""The desk where held calls wait."""

import asyncio
import functools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.approval.desk import Desk
from mcp_sod.approval.tickets import Tickets
from mcp_sod.approval.voting import Ballot
from mcp_sod.database import Database
from mcp_sod.errors import AuditError, TicketError, Unavailable
from mcp_sod.exchange import Exchange, Finding, Hold, Principal
from mcp_sod.policy.findings import Approval
from mcp_sod.policy.policy import Policy

from tests.unit.approval.making import voter_of
from tests.unit.making import Memory, exchange_of, policy_of, principal_of, tool_call

HOLD = Hold((("key", Approval()),))


def never() -> bool:
    """The wait goes on."""
    return False


class Room:
    """A desk with its journal, clock and file."""

    def __init__(self, folder: Path) -> None:
        self.policy: Policy = policy_of(folder)
        self.journal = Memory()
        self.now = 1000.0
        self.database = Database(folder / "tickets.sqlite")
        self.tickets = Tickets(self.database)
        self.desk = Desk(self.database, self.journal, lambda: self.now)

    def held(self, principal: Principal | None = None, **arguments: Any) -> Exchange:
        """A held call."""
        exchange = exchange_of(self.policy, tool_call(**arguments), principal)
        exchange.findings = (Finding("key", "high", "hold", "arguments:/sql"),)
        exchange.shown = "{masked}"
        return exchange

    def voter(self, who: str = "bob", **facts: Any) -> Any:
        """An approver under the policy of the moment."""
        return voter_of(who, policy=self.policy.digest, **facts)


@pytest.fixture
async def room(tmp_path: Path) -> AsyncIterator[Room]:
    """A desk that nobody else uses."""
    room = Room(tmp_path)
    yield room
    room.database.close()


async def test_a_held_call_gets_a_ticket_on_record(room: Room) -> None:
    """The ticket binds who, what and under which policy, shows only what is masked, and was on record first."""
    exchange = room.held(sql="x")
    ticket = await room.desk.ticket_for(
        exchange,
        Hold((("key", Approval.model_validate({"within": "1h"})), ("b", Approval.model_validate({"within": "2h"})))),
    )
    assert (ticket.state, ticket.account, ticket.digest, ticket.policy) == (
        "pending",
        principal_of().account,
        exchange.digest,
        room.policy.digest,
    )
    assert (ticket.created, ticket.expires) == (1000, 4600)
    assert ticket.behind == principal_of().behind
    assert ticket.shown == "{masked}"
    assert (
        room.journal.records[0] | {"event": "held", "ticket": ticket.id, "digest": ticket.digest}
        == room.journal.records[0]
    )


async def test_the_same_call_has_the_same_ticket(room: Room) -> None:
    """A repeat continues its ticket, many copies at once share one; another call or person gets its own."""
    found = await asyncio.gather(*(room.desk.ticket_for(room.held(sql="x"), HOLD) for _ in range(10)))
    assert len({ticket.id for ticket in found}) == 1
    assert [(record["event"], record["ticket"]) for record in room.journal.records] == [("held", found[0].id)]
    assert (await room.desk.ticket_for(room.held(sql="y"), HOLD)).id != found[0].id
    assert (await room.desk.ticket_for(room.held(principal_of("eve"), sql="x"), HOLD)).id != found[0].id


async def test_a_copy_at_another_gateway_is_on_record(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ticket that another process was faster to open is continued; the one that never was is said to be none."""
    first, second = room.held(sql="x"), room.held(sql="x")
    ticket = await room.desk.ticket_for(first, HOLD)
    find, blind = Tickets.find, iter([True])
    monkeypatch.setattr(Tickets, "find", lambda tickets, *key: None if next(blind, False) else find(tickets, *key))
    assert (await room.desk.ticket_for(second, HOLD)).id == ticket.id
    opened, dropped = room.journal.records[1:]
    assert [opened["code"], dropped["code"]] == ["opened", "duplicate"]
    assert opened["ticket"] == dropped["ticket"] != ticket.id


async def test_an_overdue_ticket_is_waited_for_without_a_flood_of_records(room: Room) -> None:
    """A call whose old ticket is over, but not yet noticed, gets a new one once it is; few records are made of it."""
    old = await room.desk.ticket_for(room.held(), HOLD)
    room.now += 10**6
    watch = asyncio.create_task(room.desk.watch())
    try:
        assert (await asyncio.wait_for(room.desk.ticket_for(room.held(), HOLD), 5)).id != old.id
        assert room.journal.events.count("held") <= 1 + 2 * 2 + 1
    finally:
        watch.cancel()


async def test_a_waiting_caller_is_woken_by_the_vote(room: Room) -> None:
    """Who waits goes on as soon as the vote is in, long before patience ends; the grant is good once."""
    exchange = room.held(sql="x")
    ticket = await room.desk.ticket_for(exchange, HOLD)
    waiting = [asyncio.create_task(room.desk.wait(ticket, 30, never)) for _ in range(3)]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in waiting)
    voted = await room.desk.vote(ticket.id, room.voter(), Ballot("approve", ticket.digest, "fine"))
    assert voted.state == "approved"
    settled = await asyncio.wait_for(asyncio.gather(*waiting), 2)
    assert {found.state for found in settled} == {"approved"}
    used = await asyncio.gather(*(room.desk.use(found, exchange) for found in settled))
    assert sorted(used) == [False, False, True]
    assert room.journal.events.count("granted") == 1
    assert (await room.desk.ticket_for(room.held(sql="x"), HOLD)).id != ticket.id


async def test_patience_ends(room: Room) -> None:
    """Without a vote the caller gets the ticket back, still pending."""
    ticket = await room.desk.ticket_for(room.held(), HOLD)
    assert (await room.desk.wait(ticket, 0.05, never)).state == "pending"
    assert (await room.desk.wait(ticket, 0, never)).state == "pending"


async def test_a_vote_by_another_process_is_noticed(room: Room, tmp_path: Path) -> None:
    """A ticket that another gateway on the same file settles wakes its waiters; an overdue one expires, on record."""
    watch = asyncio.create_task(room.desk.watch())
    try:
        ticket = await room.desk.ticket_for(room.held(), HOLD)
        waiting = asyncio.create_task(room.desk.wait(ticket, 30, never))
        other = Tickets(Database(tmp_path / "tickets.sqlite"))
        await asyncio.sleep(0.05)
        other.move(ticket.id, "pending", "approved", 1000)
        other.database.close()
        assert (await asyncio.wait_for(waiting, 3)).state == "approved"
        overdue = await room.desk.ticket_for(room.held(sql="later"), HOLD)
        waiting = asyncio.create_task(room.desk.wait(overdue, 30, never))
        room.now += 10**6
        assert (await asyncio.wait_for(waiting, 3)).state == "expired"
        assert {"event": "expired", "ticket": overdue.id}.items() <= room.journal.records[-1].items()
    finally:
        watch.cancel()


def deaf(_room: Room) -> None:
    """Changes nothing."""


@pytest.mark.parametrize(
    ("who", "change", "digest", "says"),
    [
        ({"who": "alice"}, deaf, None, "behind this request"),
        ({"who": "bot", "kind": "machine"}, deaf, None, "Machines do not vote"),
        ({"who": "bob", "roles": ("auditor",)}, deaf, None, "needs the role"),
        ({"who": "bob"}, deaf, "0" * 64, "not the digest"),
        ({"who": "bob"}, lambda room: setattr(room, "now", 10.0**6), None, "expired"),
    ],
    ids=["requester", "machine", "no role", "wrong digest", "expired"],
)
async def test_a_refused_vote_is_on_record_and_changes_nothing(
    room: Room, who: dict[str, Any], change: Callable[[Room], None], digest: str | None, says: str
) -> None:
    """Every refused vote leaves a record with who tried and why, before the refusal; a rightful vote then counts."""
    ticket = await room.desk.ticket_for(room.held(), HOLD)
    before = room.now
    change(room)
    with pytest.raises(TicketError, match=says):
        await room.desk.vote(ticket.id, room.voter(**who), Ballot("approve", digest or ticket.digest, ""))
    last = room.journal.records[-1]
    assert (last["event"], last["ticket"], last["code"]) == ("denied", ticket.id, "ticket")
    assert says in last["reason"]
    assert last["principal"]["subject"] == who["who"]
    assert (await room.desk.look_up(ticket.id))[0].state == "pending"
    room.now = before
    assert (await room.desk.vote(ticket.id, room.voter(), Ballot("approve", ticket.digest, ""))).state == "approved"


async def test_a_refused_vote_that_cannot_be_recorded_is_refused_all_the_same(room: Room) -> None:
    """With a broken journal even the refusal is an error, and there is no vote."""
    ticket = await room.desk.ticket_for(room.held(), HOLD)
    room.journal.broken = True
    with pytest.raises(AuditError):
        await room.desk.vote(ticket.id, room.voter("alice"), Ballot("approve", ticket.digest, ""))
    assert (await room.desk.look_up(ticket.id))[1] == []


async def test_one_account_that_votes_twice_at_once_counts_once(room: Room) -> None:
    """Two votes of one account in the same instant: one is taken, the other is refused, and both are on record."""
    hold = Hold((("key", Approval(votes=2)),))
    ticket = await room.desk.ticket_for(room.held(), hold)
    ballot = Ballot("approve", ticket.digest, "")
    both = await asyncio.gather(
        *(room.desk.vote(ticket.id, room.voter(), ballot) for _ in range(2)), return_exceptions=True
    )
    assert sum(isinstance(one, TicketError) for one in both) == 1
    found, votes = await room.desk.look_up(ticket.id)
    assert (found.state, len(votes)) == ("pending", 1)
    assert room.journal.events.count("denied") == 1


async def test_two_accounts_of_one_person_at_once_count_once(room: Room) -> None:
    """A person cannot race two accounts past the rule of one vote."""
    ticket = await room.desk.ticket_for(room.held(), Hold((("key", Approval(votes=2)),)))
    ballot = Ballot("approve", ticket.digest, "")
    voters = [room.voter("bob"), room.voter("bob2", person=["bob@example.com"])]
    both = await asyncio.gather(*(room.desk.vote(ticket.id, voter, ballot) for voter in voters), return_exceptions=True)
    assert sum(isinstance(one, TicketError) for one in both) == 1
    assert (await room.desk.look_up(ticket.id))[0].state == "pending"


async def test_without_a_record_there_is_no_ticket(room: Room) -> None:
    """A held call whose record cannot be written opens no ticket."""
    room.journal.broken = True
    with pytest.raises(AuditError):
        await room.desk.ticket_for(room.held(), HOLD)
    assert await room.desk.newest(None, 9) == []
    room.journal.broken = False
    await room.desk.ticket_for(room.held(), HOLD)
    assert len(await room.desk.newest(None, 9)) == 1


async def test_without_a_record_there_is_no_vote_and_no_grant(room: Room) -> None:
    """A vote that cannot be recorded does not happen, and can be tried again; such a grant is lost, unused."""
    exchange = room.held()
    ticket = await room.desk.ticket_for(exchange, HOLD)
    ballot = Ballot("approve", ticket.digest, "")
    room.journal.broken = True
    with pytest.raises(AuditError):
        await room.desk.vote(ticket.id, room.voter(), ballot)
    assert (await room.desk.look_up(ticket.id)) == (ticket, [])
    room.journal.broken = False
    approved = await room.desk.vote(ticket.id, room.voter(), ballot)
    room.journal.broken = True
    with pytest.raises(AuditError):
        await room.desk.use(approved, exchange)
    room.journal.broken = False
    assert not await room.desk.use(approved, exchange)
    assert "granted" not in room.journal.events
    again = await room.desk.ticket_for(room.held(), HOLD)
    approved = await room.desk.vote(again.id, room.voter(), Ballot("approve", again.digest, ""))
    assert await room.desk.use(approved, exchange)
    assert room.journal.events.count("granted") == 1


async def test_records_come_first(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """When a record is written, nobody can act on it yet; a grant is used up by then, but not handed out."""
    seen: list[tuple[str, str | None]] = []
    write = room.journal.write

    async def looking(event: str, **fields: Any) -> int:
        ticket = room.tickets.get(fields["ticket"])
        seen.append((event, ticket.state if ticket else None))
        return await write(event, **fields)

    monkeypatch.setattr(room.journal, "write", looking)
    exchange = room.held()
    ticket = await room.desk.ticket_for(exchange, HOLD)
    approved = await room.desk.vote(ticket.id, room.voter(), Ballot("approve", ticket.digest, ""))
    await room.desk.use(approved, exchange)
    assert seen == [("held", None), ("voted", "pending"), ("granted", "used")]


async def test_an_unknown_ticket_is_told(room: Room) -> None:
    """A ticket that is not there is a TicketError, for looking and for voting."""
    with pytest.raises(TicketError, match="no such ticket"):
        await room.desk.look_up("t-0")
    with pytest.raises(TicketError, match="no such ticket"):
        await room.desk.vote("t-0", room.voter(), Ballot("approve", "0" * 64, ""))


async def test_a_file_that_fails_refuses(room: Room, tmp_path: Path) -> None:
    """When the database fails, calls are refused as unavailable, without a word of SQL."""
    room.database.engine.dispose()
    ticket = await room.desk.ticket_for(room.held(), HOLD)
    await asyncio.to_thread((tmp_path / "tickets.sqlite").write_bytes, b"garbage" * 1000)
    room.database.engine.dispose()
    with pytest.raises(Unavailable, match=r"database cannot be used \(DatabaseError\)"):
        await room.desk.look_up(ticket.id)


def job(*started_by: str) -> Principal:
    """A job of one account, and who started it."""
    return principal_of("repo:main", kind="machine", person=set(), actors=set(started_by), client="ci")


async def test_jobs_of_one_account_that_two_people_started_share_no_ticket(room: Room) -> None:
    """A grant is for who stood behind the call when it was approved; the same person's next job finds it."""
    ada = await room.desk.ticket_for(room.held(job("ada")), HOLD)
    assert (await room.desk.ticket_for(room.held(job("ada")), HOLD)).id == ada.id
    assert (await room.desk.ticket_for(room.held(job("paula")), HOLD)).id != ada.id
    assert (await room.desk.ticket_for(room.held(job()), HOLD)).id != ada.id


async def test_a_vote_does_not_count_for_a_call_of_the_voters_own(room: Room) -> None:
    """Whatever led there: who stands behind the call that would use a grant has not voted for it."""
    ticket = await room.desk.ticket_for(room.held(job("ada")), HOLD)
    await room.desk.vote(ticket.id, room.voter("bob"), Ballot("approve", ticket.digest, ""))
    assert await room.desk.flaw(ticket, room.held(job("ada"))) is None
    assert "has voted" in str(await room.desk.flaw(ticket, room.held(job("ada", "bob@example.com"))))


async def test_a_vote_does_not_count_once_what_it_was_cast_with_is_revoked(room: Room) -> None:
    """The voter, but also the token, the client or the key that it came with."""
    marks = frozenset({("person", "bob@example.com"), ("token", "j-1")})
    ticket = await room.desk.ticket_for(room.held(), HOLD)
    await room.desk.vote(ticket.id, room.voter("bob", marks=marks), Ballot("approve", ticket.digest, ""))
    exchange = room.held()
    assert await room.desk.flaw(ticket, exchange) is None
    for mark in marks:
        exchange.revoked = functools.partial(lambda mark, found: mark in found, mark)
        assert "revoked" in str(await room.desk.flaw(ticket, exchange))
    exchange.revoked = lambda found: ("token", "j-2") in found
    assert await room.desk.flaw(ticket, exchange) is None
