"""The desk where held calls wait: opens tickets, wakes waiters, takes votes, hands out each grant once."""

import asyncio
import hashlib
import json
import secrets
import time
from collections import Counter
from collections.abc import Callable
from weakref import WeakValueDictionary

from mcp_sod.approval.tickets import Need, Ticket, Tickets, Vote
from mcp_sod.approval.voting import Ballot, Voter, objection, outcome
from mcp_sod.contracts import Journal
from mcp_sod.database import Database
from mcp_sod.errors import SodError, TicketError
from mcp_sod.exchange import Exchange, Hold, Marks, Principal

POLL = 0.5  # seconds: how late a vote taken by another process, or an expiry, is noticed


class Desk:
    """Approval's side of the data path and of the console, over the tickets of one database."""

    def __init__(self, database: Database, journal: Journal, clock: Callable[[], float] = time.time) -> None:
        """`journal` learns of every ticket, vote, grant and expiry before anyone can act on it."""
        self._tickets = Tickets(database)
        self._do = database.run
        self._journal = journal
        self._clock = clock
        self._waiting: Counter[str] = Counter()
        self._opening: WeakValueDictionary[tuple[str, str, str], asyncio.Lock] = WeakValueDictionary()
        self._changed = asyncio.Condition()

    # for held calls

    async def ticket_for(self, exchange: Exchange, hold: Hold) -> Ticket:
        """Return the ticket that this call continues, or a new one, on record before it exists."""
        assert exchange.principal is not None
        assert exchange.digest is not None
        key = (_bound(exchange.principal), exchange.digest, exchange.policy.digest)
        async with self._opening.setdefault(key, asyncio.Lock()):  # copies take turns: one opens, the others find
            while (found := await self._do(self._tickets.find, *key, self._now())) is None:
                ticket = self._new(exchange, hold)
                exchange.ticket = ticket.id
                facts = exchange.facts()
                shown = {"request": exchange.shown, "expires": ticket.expires}
                await self._journal.write("held", **facts, code="opened", **shown)
                if await self._do(self._tickets.open, ticket):
                    return ticket
                reason = "Another ticket of this call was there already; this one was never opened."
                await self._journal.write("held", **facts, code="duplicate", reason=reason)
                await asyncio.sleep(POLL)  # the other is found now, or is overdue and about to be noticed
        return found

    def _new(self, exchange: Exchange, hold: Hold) -> Ticket:
        """Return a ticket for a held call, as it is before anyone knows of it."""
        principal, call, now = exchange.principal, exchange.call, self._now()
        assert principal is not None
        assert call is not None
        assert exchange.digest is not None
        needs = tuple(Need.of(rule, approval) for rule, approval in hold.needs)
        return Ticket(
            id=f"t-{secrets.token_hex(6)}",
            state="pending",
            created=now,
            changed=now,
            expires=now + min(need.within for need in needs),
            account=principal.account,
            bound=_bound(principal),
            behind=principal.behind,
            marks=principal.marks,
            upstream=exchange.upstream_name or "",
            method=call.method,
            target=exchange.redact(call.name) if call.name else None,
            digest=exchange.digest,
            policy=exchange.policy.digest,
            findings=tuple(
                f"{found.rule} at {exchange.redact(found.at)} ({found.severity})" for found in exchange.findings
            ),
            needs=needs,
            shown=exchange.shown,
        )

    async def wait(self, ticket: Ticket, patience: float, over: Callable[[], bool]) -> Ticket:
        """Return the ticket once it is settled, or as it is after `patience` seconds, or once `over` says so."""
        until = time.monotonic() + patience
        self._waiting[ticket.id] += 1
        try:
            while ticket.state == "pending" and not over() and (left := until - time.monotonic()) > 0:
                try:
                    async with asyncio.timeout(left), self._changed:
                        await self._changed.wait()
                except TimeoutError:
                    pass
                found = await self._do(self._tickets.get, ticket.id)
                ticket = ticket if found is None else found
        finally:
            self._waiting[ticket.id] -= 1
            if not self._waiting[ticket.id]:
                del self._waiting[ticket.id]
        return ticket

    async def use(self, ticket: Ticket, exchange: Exchange) -> bool:
        """Use the ticket's grant up; False if someone was faster or it is over.

        Only who used it writes `granted`, and nothing is forwarded before this returns. If that record cannot be
        written, the grant is lost: a call must be approved once more rather than go without a record.
        """
        used = await self._do(self._tickets.move, ticket.id, "approved", "used", self._now())
        if used:
            await self._journal.write("granted", **exchange.facts())
        return used

    async def flaw(self, ticket: Ticket, exchange: Exchange) -> str | None:
        """Return why the votes for an approved ticket do not count any more, or not for who now calls, if so."""
        assert exchange.principal is not None
        votes = await self._do(self._tickets.votes, ticket.id)
        if any(exchange.revoked(vote.marks) for vote in votes):
            return "An approver was revoked."
        if any(vote.behind & exchange.principal.behind for vote in votes):
            return "Someone who stands behind this call has voted on it."
        return None

    async def cancel(self, revoked: Callable[[Marks], bool]) -> None:
        """Cancel the tickets of whoever was revoked, and wake who waits."""
        for ticket in await self._do(self._tickets.open_of, revoked):
            reason = "Whoever asked, or stands behind it, was revoked."
            facts = {"ticket": ticket.id, "digest": ticket.digest, "account": ticket.account}
            await self._journal.write("cancelled", **facts, reason=reason)
            await self._do(self._tickets.move, ticket.id, ticket.state, "cancelled", self._now())
        await self._wake()

    async def watch(self) -> None:
        """Notice expiry and what other processes do to tickets, for as long as the gateway runs."""
        while True:
            await asyncio.sleep(POLL)
            try:
                await self._look()
            except SodError:
                continue  # callers meet the same fault themselves and are refused; here it must not end the watch

    async def _look(self) -> None:
        for ticket in await self._do(self._tickets.overdue, self._now()):
            await self._journal.write("expired", ticket=ticket.id, digest=ticket.digest, account=ticket.account)
            await self._do(self._tickets.expire, ticket, self._now())
        waiting = tuple(self._waiting)
        settled = await self._do(self._tickets.settled, waiting) if waiting else set()
        if settled:
            await self._wake()

    # for voters

    async def newest(self, state: str | None, most: int) -> list[Ticket]:
        """Return the newest tickets."""
        return await self._do(self._tickets.newest, state, most)

    async def look_up(self, ticket_id: str) -> tuple[Ticket, list[Vote]]:
        """Return a ticket and its votes; raises TicketError."""
        ticket = await self._do(self._tickets.get, ticket_id)
        if ticket is None:
            raise TicketError("There is no such ticket.")
        return ticket, await self._do(self._tickets.votes, ticket_id)

    async def show(self, ticket_id: str, voter: Voter) -> tuple[Ticket, list[Vote]]:
        """Return a ticket and its votes to whom it concerns; for anyone else a TicketError says why, on record."""
        ticket, votes = await self.look_up(ticket_id)
        if not voter.may_see(ticket):
            refused = objection(ticket, voter, votes, self._now()) or TicketError("This ticket is not for you.")
            await self._record("denied", ticket, voter, method="show", code=refused.code, reason=refused.sentence)
            raise refused
        return ticket, votes

    def objection(self, ticket: Ticket, votes: list[Vote], voter: Voter) -> TicketError | None:
        """Return why this person may not vote on this ticket, or None."""
        return objection(ticket, voter, votes, self._now())

    async def vote(self, ticket_id: str, voter: Voter, ballot: Ballot) -> Ticket:
        """Take a vote and return the ticket after it; raises TicketError. Both are on record first."""
        ticket, votes = await self.look_up(ticket_id)
        refused = objection(ticket, voter, votes, self._now())
        if refused is None and ballot.digest != ticket.digest:
            refused = TicketError("This is not the digest of the ticket's call.", hint="Look at the ticket again.")
        if refused is not None:
            reason = {"code": refused.code, "reason": refused.sentence}
            await self._record("denied", ticket, voter, method="vote", decision=ballot.decision, **reason)
            raise refused
        who = voter.principal
        cast = Vote(who.account, who.behind, who.marks, voter.roles, ballot.decision, ballot.reason, self._now())
        becomes = outcome(ticket.needs, [*votes, cast])
        said = {"decision": ballot.decision, "becomes": becomes, "reason": ballot.reason}
        await self._record("voted", ticket, voter, method="vote", **said)
        if not await self._do(self._tickets.vote, ticket, cast, becomes, len(votes)):
            reason = {"code": "late", "reason": "The vote came too late."}
            await self._record("denied", ticket, voter, method="vote", decision=ballot.decision, **reason)
            raise TicketError("Someone else was faster: the ticket has changed.", hint="Look at it again.")
        await self._wake()
        return (await self.look_up(ticket_id))[0]

    async def _record(self, event: str, ticket: Ticket, voter: Voter, **facts: object) -> None:
        await self._journal.write(
            event,
            ticket=ticket.id,
            digest=ticket.digest,
            policy=voter.policy,
            principal=voter.principal.facts(),
            roles=sorted(voter.roles),
            **facts,
        )

    # inside

    async def _wake(self) -> None:
        async with self._changed:
            self._changed.notify_all()

    def _now(self) -> int:
        return int(self._clock())


def _bound(principal: Principal) -> str:
    """Return whose a ticket is: two jobs of one account, started by two people, do not share one."""
    who = json.dumps([*principal.binding, "", *sorted(principal.person)])
    return hashlib.sha256(who.encode()).hexdigest()
