"""Tickets in a SQL database: every change of state is one guarded update, so a late yes cannot overwrite a no.

States: pending → approved → used, or denied, expired, cancelled. Times are whole seconds since the epoch.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from mcp_sod.database import Database
from mcp_sod.exchange import Marks
from mcp_sod.policy.findings import Approval

type State = Literal["pending", "approved", "used", "denied", "expired", "cancelled"]

_metadata = sa.MetaData()
_tickets = sa.Table(
    "tickets", _metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("created", sa.Integer, nullable=False),
    sa.Column("changed", sa.Integer, nullable=False),
    sa.Column("expires", sa.Integer, nullable=False),
    sa.Column("account", sa.String, nullable=False),
    sa.Column("bound", sa.String, nullable=False),
    sa.Column("behind", sa.String, nullable=False),
    sa.Column("marks", sa.String, nullable=False),
    sa.Column("upstream", sa.String, nullable=False),
    sa.Column("method", sa.String, nullable=False),
    sa.Column("target", sa.String),
    sa.Column("digest", sa.String, nullable=False),
    sa.Column("policy", sa.String, nullable=False),
    sa.Column("findings", sa.String, nullable=False),
    sa.Column("needs", sa.String, nullable=False),
    sa.Column("shown", sa.String, nullable=False),
    sa.Index("by_call", "bound", "digest", "policy"),
    # Of one call, one ticket waits at a time, however many copies of it arrive at once.
    sa.Index("one_pending", "bound", "digest", "policy", unique=True,
             sqlite_where=sa.text("state = 'pending'"), postgresql_where=sa.text("state = 'pending'")),
    sa.Index("by_state", "state", "expires"),
)  # fmt: skip
_votes = sa.Table(
    "votes", _metadata,
    sa.Column("ticket", sa.String, sa.ForeignKey("tickets.id"), primary_key=True),
    sa.Column("account", sa.String, primary_key=True),
    sa.Column("behind", sa.String, nullable=False),
    sa.Column("marks", sa.String, nullable=False),
    sa.Column("roles", sa.String, nullable=False),
    sa.Column("decision", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("at", sa.Integer, nullable=False),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Need:
    """What one rule asks for: this many different people with this role."""

    rule: str
    role: str
    votes: int
    within: int  # seconds

    @classmethod
    def of(cls, rule: str, approval: Approval) -> "Need":
        """Return the need that a rule's `approval:` states."""
        return cls(rule, approval.role, approval.votes, int(approval.within))


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's yes or no."""

    account: str
    behind: frozenset[str]
    marks: Marks
    roles: frozenset[str]
    decision: Literal["approve", "deny"]
    reason: str
    at: int


@dataclass(frozen=True, slots=True)
class Ticket:
    """A held call, as the database knows it. `bound`: whose it is, down to the client and who stands behind."""

    id: str
    state: State
    created: int
    changed: int
    expires: int
    account: str
    bound: str
    behind: frozenset[str]
    marks: Marks
    upstream: str
    method: str
    target: str | None
    digest: str
    policy: str
    findings: tuple[str, ...]
    needs: tuple[Need, ...]
    shown: str


class Tickets:
    """The tickets of one gateway, or of several that share a database. Calls block: see `Database.run`."""

    def __init__(self, database: Database) -> None:
        """Keep them in this database; raises StartError when it cannot be used."""
        database.create(_metadata)
        self.database = database
        self._engine = database.engine

    def find(self, bound: str, digest: str, policy: str, now: int) -> Ticket | None:
        """Return the ticket that a repeat of a call continues: the newest one that is not used up and not over."""
        query = (
            sa.select(_tickets)
            .where(_tickets.c.bound == bound, _tickets.c.digest == digest, _tickets.c.policy == policy)
            .where(_tickets.c.state.in_(("pending", "approved", "denied")), _tickets.c.expires > now)
            .order_by(_tickets.c.created.desc(), _tickets.c.id)
            .limit(1)
        )
        with self._engine.connect() as connection:
            row = connection.execute(query).mappings().first()
        return _ticket(row) if row else None

    def open(self, ticket: Ticket) -> bool:
        """Add a new ticket; False if the same call waits already."""
        try:
            with self._engine.begin() as connection:
                connection.execute(_tickets.insert().values(**_row(ticket)))
        except sa.exc.IntegrityError:
            return False
        return True

    def get(self, ticket_id: str) -> Ticket | None:
        """Return a ticket, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_tickets).where(_tickets.c.id == ticket_id)).mappings().first()
        return _ticket(row) if row else None

    def newest(self, state: str | None, most: int) -> list[Ticket]:
        """Return the newest tickets, of one state or of all."""
        query = sa.select(_tickets).order_by(_tickets.c.created.desc(), _tickets.c.id).limit(most)
        if state is not None:
            query = query.where(_tickets.c.state == state)
        with self._engine.connect() as connection:
            return [_ticket(row) for row in connection.execute(query).mappings()]

    def votes(self, ticket_id: str) -> list[Vote]:
        """Return the votes on a ticket, oldest first."""
        query = sa.select(_votes).where(_votes.c.ticket == ticket_id).order_by(_votes.c.at, _votes.c.account)
        with self._engine.connect() as connection:
            return [_vote(row) for row in connection.execute(query).mappings()]

    def vote(self, ticket: Ticket, vote: Vote, becomes: State, before: int) -> bool:
        """Add a vote and move the ticket on, both or neither.

        False if the ticket was no longer pending, or no longer had just the `before` votes that `becomes` rests on:
        another person's, or this account's own.
        """
        count = sa.select(sa.func.count()).where(_votes.c.ticket == ticket.id).scalar_subquery()
        still = (_tickets.c.state == "pending", _tickets.c.expires > vote.at, count == before + 1)
        move = _tickets.update().where(_tickets.c.id == ticket.id, *still).values(state=becomes, changed=vote.at)
        try:
            with self._engine.begin() as connection:
                connection.execute(_votes.insert().values(ticket=ticket.id, **_vote_row(vote)))
                moved = connection.execute(move).rowcount == 1
                if not moved:
                    connection.rollback()
        except sa.exc.IntegrityError:
            return False
        return moved

    def move(self, ticket_id: str, old: State, new: State, now: int) -> bool:
        """Move a ticket from one state to another; False if it was not in the old one, or is over."""
        guard = (_tickets.c.id == ticket_id, _tickets.c.state == old, _tickets.c.expires > now)
        with self._engine.begin() as connection:
            return connection.execute(_tickets.update().where(*guard).values(state=new, changed=now)).rowcount == 1

    def open_of(self, whose: Callable[[Marks], bool]) -> list[Ticket]:
        """Return the tickets that wait, or hold an unused grant, of those whose marks fit."""
        query = sa.select(_tickets).where(_tickets.c.state.in_(("pending", "approved")))
        with self._engine.connect() as connection:
            found = map(_ticket, connection.execute(query).mappings())
            return [ticket for ticket in found if whose(ticket.marks)]

    def overdue(self, now: int) -> list[Ticket]:
        """Return the tickets that still wait, or hold an unused grant, although their time is over."""
        query = sa.select(_tickets).where(_tickets.c.state.in_(("pending", "approved")), _tickets.c.expires <= now)
        with self._engine.connect() as connection:
            return [_ticket(row) for row in connection.execute(query).mappings()]

    def expire(self, ticket: Ticket, now: int) -> None:
        """Move an overdue ticket to `expired`."""
        guard = (_tickets.c.id == ticket.id, _tickets.c.state == ticket.state, _tickets.c.expires <= now)
        with self._engine.begin() as connection:
            connection.execute(_tickets.update().where(*guard).values(state="expired", changed=now))

    def settled(self, ticket_ids: tuple[str, ...]) -> set[str]:
        """Return which of the tickets are no longer pending."""
        query = sa.select(_tickets.c.id).where(_tickets.c.id.in_(ticket_ids), _tickets.c.state != "pending")
        with self._engine.connect() as connection:
            return set(connection.execute(query).scalars())


def _row(ticket: Ticket) -> dict[str, object]:
    row = {name: getattr(ticket, name) for name in Ticket.__slots__}
    needs = [
        {"rule": need.rule, "role": need.role, "votes": need.votes, "within": need.within} for need in ticket.needs
    ]
    return row | {
        "behind": json.dumps(sorted(ticket.behind)),
        "marks": json.dumps(sorted(ticket.marks)),
        "findings": json.dumps(ticket.findings),
        "needs": json.dumps(needs),
    }


def _ticket(row: sa.RowMapping) -> Ticket:
    return Ticket(**dict(row) | {
        "behind": frozenset(json.loads(row["behind"])),
        "marks": _marks(row["marks"]),
        "findings": tuple(json.loads(row["findings"])),
        "needs": tuple(Need(**need) for need in json.loads(row["needs"])),
    })  # fmt: skip


def _vote_row(vote: Vote) -> dict[str, object]:
    row = {name: getattr(vote, name) for name in Vote.__slots__}
    behind, marks = json.dumps(sorted(vote.behind)), json.dumps(sorted(vote.marks))
    return row | {"behind": behind, "marks": marks, "roles": json.dumps(sorted(vote.roles))}


def _vote(row: sa.RowMapping) -> Vote:
    values = {name: value for name, value in row.items() if name != "ticket"}
    return Vote(**values | {
        "behind": frozenset(json.loads(row["behind"])), "marks": _marks(row["marks"]),
        "roles": frozenset(json.loads(row["roles"])),
    })  # fmt: skip


def _marks(written: str) -> Marks:
    return frozenset((kind, value) for kind, value in json.loads(written))
