"""Who may do nothing any more, by the policy and by command; every call knows it without asking the database."""

import asyncio
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace

import sqlalchemy as sa

from mcp_sod.database import Database
from mcp_sod.errors import Refusal, Revoked, SodError, Unavailable
from mcp_sod.exchange import Marks, Principal
from mcp_sod.identity.principal import person_key
from mcp_sod.policy.people import Kind, Revocation

LOOK = 0.4  # seconds between two looks at the database
STALE = 5.0  # seconds without a look after which nobody is believed

_metadata = sa.MetaData()
_table = sa.Table(
    "revocations", _metadata,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=True),
    sa.Column("kind", sa.String, nullable=False),
    sa.Column("value", sa.String, nullable=False),
    sa.Column("reason", sa.String, nullable=False),
    sa.Column("by", sa.String, nullable=False),
    sa.Column("at", sa.Integer, nullable=False),
    sa.Column("lifted", sa.Integer),
    sa.Column("lifted_by", sa.String),
    sa.Index("in_force", "lifted"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Entry:
    """One revocation: of what, why, by which account, when (seconds since the epoch)."""

    id: int
    kind: Kind
    value: str
    reason: str
    by: str
    at: int


class Revocations:
    """All that is revoked, at hand."""

    def __init__(self, database: Database, clock: Callable[[], float] = time.monotonic) -> None:
        """Know nothing yet: until the first look, nobody is believed."""
        database.create(_metadata)
        self._database = database
        self._clock = clock
        self._looked = float("-inf")
        self._marks: Marks = frozenset()
        self._listed: tuple[Revocation | None, Marks] = (None, frozenset())  # of the policy, once worked out
        self.more = asyncio.Event()  # set when there are more

    # for calls

    def objection(self, principal: Principal, listed: Revocation, session: str = "") -> Refusal | None:
        """Return why the principal may do nothing, or None. `session`: the fingerprint of the one it speaks in."""
        if self._clock() - self._looked > STALE:
            return Unavailable("Who was revoked cannot be found out.", operator="The database does not answer.")
        marks = self._in_force(listed)
        if marks and not (marks.isdisjoint(principal.marks) and ("session", session) not in marks):
            return Revoked("Your access, or that of someone you act for, was revoked.", hint="Ask your security team.")
        return None

    def reaches(self, marks: Marks, listed: Revocation) -> bool:
        """Say whether someone is revoked of whom only the marks are known."""
        return not self._in_force(listed).isdisjoint(marks)

    def _in_force(self, listed: Revocation) -> Marks:
        if self._listed[0] is not listed:
            self._listed = (listed, frozenset(mark(*entry.named) for entry in listed.revoked))
        return self._marks | self._listed[1] if self._listed[1] else self._marks

    # for the console

    async def revoke(self, kind: Kind, value: str, reason: str, by: str) -> Entry:
        """Revoke, and know it at once."""
        entry = Entry(0, kind, mark(kind, value)[1], reason, by, int(time.time()))
        made = await self._database.run(self._insert, entry)
        await self.look()
        return replace(entry, id=made)

    async def lift(self, entry: int, by: str) -> bool:
        """Take one revocation back; False if it is not in force."""
        lifted = await self._database.run(self._lift, entry, by)
        await self.look()
        return lifted

    async def entries(self) -> list[Entry]:
        """Return what is in force by command, newest first."""
        return await self._database.run(self._read)

    # beside them

    async def look(self) -> None:
        """See what the database says now; raises Unavailable."""
        found = frozenset((entry.kind, entry.value) for entry in await self._database.run(self._read))
        more, self._marks, self._looked = found - self._marks, found, self._clock()
        if more:
            self.more.set()

    async def watch(self) -> None:
        """Look again and again, for as long as the gateway runs: other processes revoke as well."""
        while True:
            with suppress(SodError):  # calls are refused once this lasts
                await self.look()
            await asyncio.sleep(LOOK)

    def _insert(self, entry: Entry) -> int:
        row = {name: getattr(entry, name) for name in Entry.__slots__ if name != "id"}
        with self._database.engine.begin() as connection:
            made = connection.execute(_table.insert().values(**row).returning(_table.c.id))
            return int(made.scalar_one())

    def _lift(self, entry: int, by: str) -> bool:
        change = _table.update().where(_table.c.id == entry, _table.c.lifted.is_(None))
        with self._database.engine.begin() as connection:
            return connection.execute(change.values(lifted=int(time.time()), lifted_by=by)).rowcount == 1

    def _read(self) -> list[Entry]:
        columns = [_table.c[name] for name in Entry.__slots__]
        query = sa.select(*columns).where(_table.c.lifted.is_(None)).order_by(_table.c.id.desc())
        with self._database.engine.connect() as connection:
            return [Entry(*row) for row in connection.execute(query)]


def mark(kind: Kind, value: str) -> tuple[Kind, str]:
    """Return a revocation in the form in which spellings of one thing meet."""
    plain = value.strip()
    if kind in ("person", "subject"):
        plain = person_key(value)
    elif re.fullmatch("[0-9A-Fa-f]{16}", plain):  # a fingerprint
        plain = plain.lower()
    return kind, plain
