"""That an assertion is good for one token."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from mcp_sod.database import Database
from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.identity import used_assertions
from mcp_sod.identity.assertions import Assertion
from mcp_sod.identity.used_assertions import KEPT, UsedAssertions

ONE = Assertion("_a", "alice", (), (), 1330.0, None)


@pytest.fixture
async def database(tmp_path: Path) -> AsyncIterator[Database]:
    """A database of its own."""
    opened = Database(tmp_path / "gateway.sqlite")
    yield opened
    opened.close()


def size(database: Database) -> int:
    """How many assertions are remembered."""
    with database.engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(*) FROM used_assertions")).scalar_one())


async def test_an_assertion_is_used_once(database: Database) -> None:
    """The second time it is refused; another one, or one of that id by another provider, is not."""
    used = UsedAssertions(database)
    await used.use("https://idp.example", ONE, 1000)
    with pytest.raises(Unauthenticated, match="was used before"):
        await used.use("https://idp.example", ONE, 1001)
    await used.use("https://idp.example", replace(ONE, id="_b"), 1001)
    await used.use("https://other.example", ONE, 1001)


async def test_it_is_remembered_across_a_restart(database: Database, tmp_path: Path) -> None:
    """A gateway that starts anew, or another on the same database, knows what was used."""
    await UsedAssertions(database).use("https://idp.example", ONE, 1000)
    again = Database(tmp_path / "gateway.sqlite")
    with pytest.raises(Unauthenticated, match="was used before"):
        await UsedAssertions(again).use("https://idp.example", ONE, 1001)
    await UsedAssertions(again).use("https://idp.example", replace(ONE, id="_b"), 1001)
    again.close()


async def test_of_many_at_once_one_counts(database: Database) -> None:
    """Copies that race give one token."""
    used = UsedAssertions(database)
    tries = [used.use("https://idp.example", ONE, 1000) for _ in range(10)]
    outcomes = await asyncio.gather(*tries, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["NoneType"] + ["Unauthenticated"] * 9


async def test_what_is_over_is_forgotten(database: Database) -> None:
    """An assertion is remembered for ten minutes after it would be refused for its age, and no longer."""
    used = UsedAssertions(database)
    await used.use("https://idp.example", ONE, 1000)
    await used.use("https://idp.example", replace(ONE, id="_b", until=9999), 1330 + KEPT - 1)
    assert size(database) == 2
    await used.use("https://idp.example", replace(ONE, id="_c", until=9999), 1330 + KEPT)
    assert size(database) == 2


async def test_there_is_a_limit(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where too many are remembered, nobody signs on, and nothing is forgotten."""
    monkeypatch.setattr(used_assertions, "MOST", 2)
    used = UsedAssertions(database)
    for name in ("_a", "_b"):
        await used.use("https://idp.example", replace(ONE, id=name), 1000)
    with pytest.raises(Unavailable, match="Too many"):
        await used.use("https://idp.example", replace(ONE, id="_c"), 1000)
    assert size(database) == 2
