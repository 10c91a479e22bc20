"""Who did what to which object, in a SQL database that gateways may share: remembered over restarts, for a while.

Kept is what was done (upstream, tool, where its key was), not which rule it fell under. An object is known by the
digest of its key. Times are whole seconds since the epoch.
"""

from collections.abc import Iterator, Mapping

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite

from mcp_sod.database import Database
from mcp_sod.separation.judgement import Past, Remembered, judge
from mcp_sod.separation.objects import Acting

SWEPT = 64  # rows beyond its own that each new act clears away of what is over

_metadata = sa.MetaData()


def _deed() -> list[sa.Column[str]]:
    return [sa.Column(name, sa.String, primary_key=True) for name in ("upstream", "tool", "key")]


_acts = sa.Table(
    "acts", _metadata,
    sa.Column("object", sa.String, primary_key=True),
    sa.Column("person", sa.String, primary_key=True),
    *_deed(),
    sa.Column("reference", sa.String, nullable=False),
    sa.Column("at", sa.Integer, nullable=False),
    sa.Column("until", sa.Integer, nullable=False),
    sa.Index("acts_until", "until"),
)  # fmt: skip
# Acts whose object only the result will tell, until it does.
_open_acts = sa.Table(
    "open_acts", _metadata,
    sa.Column("person", sa.String, primary_key=True),
    *_deed(),
    sa.Column("reference", sa.String, primary_key=True),
    sa.Column("at", sa.Integer, nullable=False),
    sa.Column("until", sa.Integer, nullable=False),
    sa.Index("open_acts_person", "person", "at"),
    sa.Index("open_acts_reference", "reference", "key"),
    sa.Index("open_acts_until", "until"),
)  # fmt: skip

type Settled = Mapping[str, frozenset[str]]  # by where the result tells them: the objects, none if nothing was done


class Memory:
    """The memory of one gateway, or of several that share a database. Calls block, so `do` does them."""

    def __init__(self, database: Database) -> None:
        """Keep it in this database; raises StartError when it cannot be used."""
        database.create(_metadata)
        self.do = database.run
        self._engine = database.engine

    def check(self, acting: Acting, now: int) -> None:
        """Raise Conflict when a rule forbids the call by what is remembered now."""
        with self._engine.connect() as connection:
            judge(acting, _remembered(connection, acting, now), now)

    def claim(self, acting: Acting, now: int) -> None:
        """Check again and remember the call, in one transaction of which there is one at a time; raises Conflict."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")  # before it reads: or two calls could both find nothing
            judge(acting, _remembered(connection, acting, now), now)
            _sweep(connection, now, _remember(connection, acting, now))

    def settle(self, acting: Acting, settled: Settled) -> None:
        """Put the objects that the result told in place of the open acts; drop those of which nothing came."""
        with self._engine.begin() as connection:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
            for key, objects in settled.items():
                mine = (_open_acts.c.reference == acting.reference) & (_open_acts.c.key == key)
                found = connection.execute(sa.select(_open_acts).where(mine)).mappings().all()
                for row in found:
                    _put(connection, [{**row, "object": one} for one in sorted(objects)])
                connection.execute(_open_acts.delete().where(mine))


def _remembered(connection: sa.Connection, acting: Acting, now: int) -> Remembered:
    """Return what there is of the call; each query is a search of an index, for what still counts."""
    if not acting.objects:
        return Remembered((), ())
    upon, behind = _acts.c.object.in_(sorted(acting.objects)), sorted(acting.behind)
    theirs = _newest(connection, _acts, upon & _acts.c.person.in_(behind))
    recent = _open_acts.c.at > now - int(acting.open_for)
    unsettled = _newest(connection, _open_acts, _open_acts.c.person.in_(behind) & recent)
    return Remembered((*theirs, *unsettled), tuple(_newest(connection, _acts, upon)))


def _newest(connection: sa.Connection, table: sa.Table, which: sa.ColumnElement[bool]) -> Iterator[Past]:
    """Yield each act once, by whomever and how often it was done."""
    act = [column for column in table.c if column.name in ("object", "upstream", "tool", "key")]
    newest = [sa.func.max(table.c[name]).label(name) for name in ("reference", "at")]
    rows = connection.execute(sa.select(*act, *newest).where(which).group_by(*act)).mappings()
    return (Past(**row) for row in rows)


def _remember(connection: sa.Connection, acting: Acting, now: int) -> int:
    """Write the acts, one row for each key of whoever is behind the call; return how many."""
    known: list[dict[str, object]] = []
    opened: list[dict[str, object]] = []
    for act in acting.acts:
        deed = {"upstream": act.upstream, "tool": act.tool, "key": act.key, "reference": acting.reference}
        rows = [{**deed, "person": key, "at": now, "until": now + int(acting.keep)} for key in sorted(acting.behind)]
        if act.objects is None:
            opened += rows
        else:
            known += [{**row, "object": one} for one in sorted(act.objects) for row in rows]
    if opened:
        connection.execute(_open_acts.insert(), opened)
    _put(connection, known)
    return len(opened) + len(known)


def _put(connection: sa.Connection, rows: list[dict[str, object]]) -> None:
    """Add acts; of one that was done before, the newest is kept, for the longest of the times asked for."""
    if not rows:
        return
    new = sqlite.insert(_acts)
    again = {name: sa.func.max(_acts.c[name], new.excluded[name]) for name in ("at", "until")}
    connection.execute(
        new.on_conflict_do_update(index_elements=_acts.primary_key, set_=again | {"reference": new.excluded.reference}),
        rows,
    )


def _sweep(connection: sa.Connection, now: int, added: int) -> None:
    """Clear away what is over, more than was added, so that what is over cannot pile up."""
    row: sa.ColumnElement[int] = sa.literal_column("rowid")
    for table in (_acts, _open_acts):
        over = sa.select(row).select_from(table).where(table.c.until <= now).limit(added + SWEPT)
        connection.execute(table.delete().where(row.in_(over)))
