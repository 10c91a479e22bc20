"""Which assertions were used: each is good for one token, across restarts and gateways that share the database."""

import hashlib

import sqlalchemy as sa

from mcp_sod.database import Database
from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.identity.assertions import Assertion

MOST = 100_000  # assertions of the last hour or so, all of them signed by a provider
KEPT = 600.0  # seconds beyond an assertion's end, for responses that are being looked at and clocks that differ

_metadata = sa.MetaData()
_used = sa.Table(
    "used_assertions", _metadata,
    sa.Column("mark", sa.String, primary_key=True),  # SHA-256 of provider and id
    sa.Column("until", sa.Float, nullable=False),
    sa.Index("used_until", "until"),
)  # fmt: skip


class UsedAssertions:
    """Remembers each assertion until it would be refused for its age anyway."""

    def __init__(self, database: Database) -> None:
        """Keep them in this database; raises StartError when it cannot be used."""
        database.create(_metadata)
        self._do = database.run
        self._engine = database.engine

    async def use(self, entity: str, assertion: Assertion, now: float) -> None:
        """Use the provider's assertion up; raises Unauthenticated if it was used before."""
        mark = hashlib.sha256(f"{entity}\0{assertion.id}".encode()).hexdigest()
        if not await self._do(self._add, mark, assertion.until, now):
            raise Unauthenticated("This assertion was used before.", hint="Sign on again.")

    def _add(self, mark: str, until: float, now: float) -> bool:
        try:
            with self._engine.begin() as connection:
                connection.execute(_used.delete().where(_used.c.until <= now - KEPT))
                connection.execute(_used.insert().values(mark=mark, until=until))
                full = connection.execute(sa.select(sa.func.count()).select_from(_used)).scalar_one() > MOST
                if full:
                    connection.rollback()
        except sa.exc.IntegrityError:
            return False
        if full:
            raise Unavailable("Too many people have signed on within the hour.", hint="Try again later.")
        return True
