"""Results that wait to be collected, in a SQL database: every change of state is one guarded update.

States: expected → kept → collected, or continued, lost, expired. Times are whole seconds since the epoch.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import sqlalchemy as sa

from mcp_sod.database import Database

type State = Literal["expected", "kept", "collected", "continued", "lost", "expired"]

MOST_WAITING = 1_000  # results of one sender that wait at a time
MOST_BYTES = 1 << 30  # of all bodies that wait
MOST_BYTES_EACH = 128 << 20  # of one sender's
_LOOK = 200  # rows that one look at what is overdue takes
_SETTLING = 60  # seconds that a collected body stays, so that whoever is about to give it out can
REMEMBERED = 30 * 86400  # seconds that a row is kept beyond its expiry, to say what became of it

_metadata = sa.MetaData()
_parcels = sa.Table(
    "parcels", _metadata,
    sa.Column("id", sa.String, primary_key=True),
    sa.Column("state", sa.String, nullable=False),
    sa.Column("created", sa.Integer, nullable=False),
    sa.Column("changed", sa.Integer, nullable=False),
    sa.Column("expires", sa.Integer, nullable=False),
    sa.Column("reference", sa.String, nullable=False),
    sa.Column("gateway", sa.String, nullable=False),
    sa.Column("account", sa.String, nullable=False),
    sa.Column("behind", sa.String, nullable=False),
    sa.Column("upstream", sa.String, nullable=False),
    sa.Column("tool", sa.String, nullable=False),
    sa.Column("role", sa.String, nullable=False),
    sa.Column("policy", sa.String, nullable=False),
    sa.Column("collector", sa.String),
    sa.Column("size", sa.Integer, nullable=False),
    sa.Column("body", sa.LargeBinary),
    sa.Index("parcels_by_sender", "account", "created"),
    sa.Index("parcels_by_role", "role", "state", "created"),
    sa.Index("parcels_by_state", "state", "expires"),
    sa.Index("parcels_by_end", "expires"),
)  # fmt: skip
_ABOUT = [column for column in _parcels.columns if column.name != "body"]
_WAITING = ("expected", "kept")


@dataclass(frozen=True, slots=True)
class Parcel:
    """One call's result on its way to someone else; `body` is sealed, `size` its bytes before that.

    Of what is expected, `size` is how large it may become.
    """

    id: str
    state: State
    created: int
    changed: int
    expires: int
    reference: str
    gateway: str
    account: str
    behind: frozenset[str]
    upstream: str
    tool: str
    role: str
    policy: str
    collector: str | None = None
    size: int = 0
    body: bytes | None = None


class Shelf:
    """The parcels of one gateway, or of several that share a database. Calls block: see `Database.run`."""

    def __init__(self, database: Database) -> None:
        """Keep them in this database; raises StartError when it cannot be used."""
        database.create(_metadata)
        self._engine = database.engine

    def expect(self, parcel: Parcel) -> bool:
        """Add a parcel whose result is to come; False if too much waits already, of this sender's or of all."""
        here = _parcels.c.state.in_(_WAITING), _parcels.c.expires > parcel.created
        size = sa.func.coalesce(sa.func.sum(_parcels.c.size), 0)
        mine = sa.select(sa.func.count(), size).where(_parcels.c.account == parcel.account, *here)
        with self._engine.begin() as connection:
            number, mine_size = connection.execute(mine).one()
            room: bool = number < MOST_WAITING and mine_size < MOST_BYTES_EACH
            room = room and connection.execute(sa.select(size).where(*here)).scalar_one() < MOST_BYTES
            if room:
                connection.execute(_parcels.insert().values(**_row(parcel)))
        return room

    def keep(self, parcel: Parcel, now: int) -> bool:
        """Keep what was expected, with its sealed body; False if it is no longer expected, or its time is over."""
        return self._move(parcel.id, ("expected",), now, alive=True, state="kept", size=parcel.size, body=parcel.body)

    def collect(self, parcel_id: str, collector: str, now: int) -> bool:
        """Give what is kept to this account; False if it is no longer there, or its time is over."""
        return self._move(parcel_id, ("kept",), now, alive=True, state="collected", collector=collector)

    def restore(self, parcel_id: str, collector: str, now: int) -> bool:
        """Take back what this account was to get and did not."""
        here = _parcels.c.collector == collector
        return self._move(parcel_id, ("collected",), now, here, state="kept", collector=None)

    def end(self, parcel_id: str, state: Literal["continued", "lost"], now: int) -> bool:
        """Note that no result will come; False if it was not expected."""
        return self._move(parcel_id, ("expected",), now, state=state, size=0)

    def expire(self, parcel_id: str, now: int) -> bool:
        """Wipe what was not collected in time; False if it was, or its time is not over."""
        over = _parcels.c.expires <= now
        return self._move(parcel_id, _WAITING, now, over, state="expired", size=0, body=None)

    def wipe(self, parcel_id: str) -> None:
        """Forget the body of what was collected."""
        with self._engine.begin() as connection:
            here = _parcels.c.id == parcel_id, _parcels.c.state == "collected"
            connection.execute(_parcels.update().where(*here).values(size=0, body=None))

    def get(self, parcel_id: str) -> Parcel | None:
        """Return a parcel, or None."""
        with self._engine.connect() as connection:
            row = connection.execute(sa.select(_parcels).where(_parcels.c.id == parcel_id)).mappings().first()
        return _parcel(row) if row else None

    def concerning(self, account: str, roles: Iterable[str], most: int) -> list[Parcel]:
        """Return the newest parcels that wait for these roles, and the newest of this sender, without bodies."""
        waits = sa.and_(_parcels.c.role.in_(list(roles)), _parcels.c.state.in_(_WAITING))
        found: dict[str, Parcel] = {}
        with self._engine.connect() as connection:
            for here in (waits, _parcels.c.account == account):
                query = sa.select(*_ABOUT).where(here).order_by(_parcels.c.created.desc(), _parcels.c.id).limit(most)
                found |= {row["id"]: _parcel(row) for row in connection.execute(query).mappings()}
        return sorted(found.values(), key=lambda parcel: (-parcel.created, parcel.id))

    def overdue(self, now: int) -> list[Parcel]:
        """Return parcels that still wait although their time is over, without bodies."""
        return self._some(_parcels.c.state.in_(_WAITING), _parcels.c.expires <= now)

    def expected_by(self, gateway: str) -> list[Parcel]:
        """Return parcels whose results this gateway expects, without bodies."""
        return self._some(_parcels.c.state == "expected", _parcels.c.gateway == gateway)

    def tidy(self, now: int) -> None:
        """Forget bodies that a gateway which ended left behind, and rows that are long over."""
        left = _parcels.c.state == "collected", _parcels.c.size > 0, _parcels.c.changed < now - _SETTLING
        with self._engine.begin() as connection:
            connection.execute(_parcels.update().where(*left).values(size=0, body=None))
            connection.execute(_parcels.delete().where(_parcels.c.expires < now - REMEMBERED))

    def _some(self, *where: sa.ColumnElement[bool]) -> list[Parcel]:
        with self._engine.connect() as connection:
            found = connection.execute(sa.select(*_ABOUT).where(*where).limit(_LOOK)).mappings()
            return [_parcel(row) for row in found]

    def _move(
        self, parcel_id: str, old: tuple[str, ...], now: int, *more: sa.ColumnElement[bool], alive: bool = False,
        **values: object,
    ) -> bool:  # fmt: skip
        guard = [_parcels.c.id == parcel_id, _parcels.c.state.in_(old), *more]
        guard += [_parcels.c.expires > now] if alive else []
        with self._engine.begin() as connection:
            return connection.execute(_parcels.update().where(*guard).values(changed=now, **values)).rowcount == 1


def _row(parcel: Parcel) -> dict[str, object]:
    row = {name: getattr(parcel, name) for name in Parcel.__slots__}
    return row | {"behind": json.dumps(sorted(parcel.behind))}


def _parcel(row: sa.RowMapping) -> Parcel:
    return Parcel(**dict(row) | {"behind": frozenset(json.loads(row["behind"]))})
