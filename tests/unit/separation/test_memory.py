"""What is remembered, in the database."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from mcp_sod.database import Database
from mcp_sod.errors import Conflict, StartError
from mcp_sod.policy.policy import Policy
from mcp_sod.separation.keys import digest
from mcp_sod.separation.memory import SWEPT, Memory

from tests.unit.separation.making import acting, rules

KEY = "result:/id"


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    """A fresh file."""
    opened = Database(tmp_path / "state" / "tickets.sqlite")
    yield opened
    opened.close()


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    """Create, approve, pay; remembered for an hour."""
    return rules(tmp_path, keep="1h")


def rows(database: Database, table: str) -> int:
    """How many rows there are."""
    with database.engine.connect() as connection:
        return int(connection.execute(sa.text(f"SELECT count(*) FROM {table}")).scalar_one())  # noqa: S608 (a test's own words)


@pytest.mark.parametrize(
    ("who", "refused"),
    [(("ada",), True), (("ada", "x"), True), (("x", "job"), True), (("bob",), False), ((), False)],
)
def test_who_meets_whom(database: Database, policy: Policy, who: tuple[str, ...], refused: bool) -> None:
    """Any key of anyone behind a call that meets any key of what was done makes it one person's."""
    memory = Memory(database)
    memory.claim(acting(policy, "approve", ("ada", "job"), id=1), 1000)
    for act in (memory.check, memory.claim):
        if refused:
            with pytest.raises(Conflict, match="did approve"):
                act(acting(policy, "pay", who, id=1), 1000)
        else:
            act(acting(policy, "pay", who, id=1), 1000)


def test_a_look_claims_nothing(database: Database, policy: Policy) -> None:
    """The early check leaves nothing behind, and what was refused neither."""
    memory = Memory(database)
    memory.check(acting(policy, "approve", id=1), 1000)
    assert rows(database, "acts") == 0
    memory.claim(acting(policy, "approve", id=1), 1000)
    with pytest.raises(Conflict):
        memory.claim(acting(policy, "pay", id=[1, 2]), 1000)
    assert rows(database, "acts") == 1


def test_the_same_again_is_kept_once(database: Database, policy: Policy) -> None:
    """However often one person does one thing to one object, it is one row, with the newest time and reference."""
    memory = Memory(database)
    for at in (1000, 3000, 2000):
        memory.claim(acting(policy, "approve", reference=f"x-{at}", id=1), at)
    assert rows(database, "acts") == 1
    memory.check(acting(policy, "pay", id=1), 6600)
    with pytest.raises(Conflict, match="x-2000"):
        memory.check(acting(policy, "pay", id=1), 6599)


def test_a_result_settles_what_was_open(database: Database, policy: Policy) -> None:
    """The objects that the result told take the open act's place, for everyone behind it; others' stay open."""
    memory = Memory(database)
    mine, another = acting(policy, "create_x", ("ada", "job")), acting(policy, "create_x", ("ada",), reference="x-2")
    memory.claim(mine, 1000)
    memory.claim(another, 1000)
    assert (rows(database, "acts"), rows(database, "open_acts")) == (0, 3)
    memory.settle(mine, {KEY: frozenset({digest(1), digest(2)})})
    assert (rows(database, "acts"), rows(database, "open_acts")) == (4, 1)
    with pytest.raises(Conflict, match="did create"):
        memory.check(acting(policy, "pay", ("job",), id=2), 1000)
    memory.check(acting(policy, "pay", ("job",), id=3), 1000)
    with pytest.raises(Conflict, match=r"x-2.*has not come"):
        memory.check(acting(policy, "pay", ("ada",), id=3), 1000)


def test_nothing_made_leaves_nothing(database: Database, policy: Policy) -> None:
    """An open act of which nothing came is dropped; settling twice, or what was never open, does nothing."""
    memory = Memory(database)
    made = acting(policy, "create_x")
    memory.claim(made, 1000)
    memory.settle(made, {})
    assert rows(database, "open_acts") == 1
    memory.settle(made, {KEY: frozenset()})
    memory.settle(made, {KEY: frozenset({digest(1)})})
    assert (rows(database, "acts"), rows(database, "open_acts")) == (0, 0)


def test_what_is_open_ends_sooner_than_what_is_known(database: Database, tmp_path: Path) -> None:
    """An open act stands in the way for `open_for`; settled later than that, its object is known for all of `keep`."""
    memory, policy = Memory(database), rules(tmp_path, keep="1h", open_for="1m")
    memory.claim(made := acting(policy, "create_x"), 1000)
    with pytest.raises(Conflict, match="has not come"):
        memory.check(acting(policy, "pay", id=1), 1059)
    memory.check(acting(policy, "pay", id=1), 1060)
    memory.settle(made, {KEY: frozenset({digest(1)})})
    with pytest.raises(Conflict, match="did create"):
        memory.check(acting(policy, "pay", id=1), 4599)


def test_what_is_over_is_cleared_away(database: Database, policy: Policy) -> None:
    """Each claim clears more than it adds of what is over, and nothing else."""
    memory = Memory(database)
    for number in range(SWEPT + 10):
        memory.claim(acting(policy, "approve", id=number), 1000)
    memory.claim(acting(policy, "create_x"), 1000)
    memory.claim(acting(policy, "approve", ("bob",), id="kept"), 4599)
    assert rows(database, "acts") == SWEPT + 11
    memory.claim(acting(policy, "approve", ("bob",), id="new"), 4600)
    assert (rows(database, "acts"), rows(database, "open_acts")) == (11, 0)
    memory.claim(acting(policy, "approve", ("bob",), id="newer"), 4600)
    assert rows(database, "acts") == 3
    with pytest.raises(Conflict):
        memory.check(acting(policy, "pay", ("bob",), id="kept"), 4600)


def test_of_two_at_once_one_passes(tmp_path: Path, policy: Policy) -> None:
    """Two processes' claims of two duties of one object, at one moment: exactly one is written."""
    opened = [Database(tmp_path / "shared.sqlite") for _ in range(2)]
    memories = [Memory(database) for database in opened]
    with ThreadPoolExecutor(2) as callers:
        for number in range(100):
            calls = [
                callers.submit(_passes, memory, policy, tool, number)
                for memory, tool in zip(memories, ("approve", "pay"), strict=True)
            ]
            assert sorted(call.result() for call in calls) == [False, True]
    for database in opened:
        database.close()


def _passes(memory: Memory, policy: Policy, tool: str, number: int) -> bool:
    try:
        memory.claim(acting(policy, tool, id=number), 1000)
    except Conflict:
        return False
    return True


def test_every_query_is_a_search_of_an_index(database: Database, policy: Policy) -> None:
    """No statement walks a table, so that none takes longer as memory grows."""
    memory = Memory(database)
    plans: list[str] = []

    def explain(
        connection: sa.Connection, _cursor: object, statement: str, values: tuple[object, ...], *_: object
    ) -> None:
        if statement.startswith(("SELECT", "DELETE")):
            raw = connection.connection.driver_connection
            assert raw is not None
            plans.extend(row[-1] for row in raw.execute(f"EXPLAIN QUERY PLAN {statement}", values))

    sa.event.listen(database.engine, "before_cursor_execute", explain)
    memory.claim(acting(policy, "pay", id=[1, 2]), 1000)
    memory.claim(made := acting(policy, "create_x"), 1000)
    memory.settle(made, {KEY: frozenset()})
    assert any("SEARCH" in plan for plan in plans)
    assert [plan for plan in plans if "SCAN" in plan] == []


def test_no_key_stands_in_the_file(database: Database, policy: Policy, tmp_path: Path) -> None:
    """An object's key may be anything, so the file has its digest."""
    Memory(database).claim(acting(policy, "pay", id="DE89370400440532013000"), 1000)
    kept = b"".join(file.read_bytes() for file in (tmp_path / "state").iterdir())
    assert digest("DE89370400440532013000").encode() in kept
    assert b"370400440532013000" not in kept


def test_a_file_that_is_no_database(tmp_path: Path) -> None:
    """The start fails with a sentence."""
    (tmp_path / "x.sqlite").write_bytes(b"not a database, whatever its name says")
    with pytest.raises(StartError):
        Memory(Database(tmp_path / "x.sqlite"))
