"""Who is revoked, and how it is known."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.database import Database
from mcp_sod.errors import Refusal, Revoked, Unavailable
from mcp_sod.exchange import Principal
from mcp_sod.identity.revocations import STALE, Revocations
from mcp_sod.policy.people import Kind, Revocation

from tests.unit.making import principal_of

NOBODY = Revocation()
KEYS = ["thumb", "kid-1"]


class Office:
    """Revocations with a clock, in a database."""

    def __init__(self, database: Database) -> None:
        self.now = 0.0
        self.database = database
        self.revocations = Revocations(database, lambda: self.now)

    def objection(self, who: Principal, session: str = "", listed: Revocation = NOBODY) -> Refusal | None:
        """What stands against someone."""
        return self.revocations.objection(who, listed, session)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """An office that has looked once."""
    database = Database(tmp_path / "d.sqlite")
    built = Office(database)
    await built.revocations.look()
    yield built
    database.close()


ALICE = principal_of(
    "a-1", person={"alice@example.com", "e-7"}, actors={"boss", "https://login.example#boss"}, client="cli",
    fingerprint="f-1", keys=KEYS, token_id="j-1",  # noqa: S106 (an id, no secret)
)  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "value", "hit"),
    [
        ("subject", "a-1", True),
        ("subject", "https://login.example#a-1", True),
        ("subject", "HTTPS://login.example#A-1", True),
        ("subject", "https://other.example#a-1", False),
        ("subject", "a-10", False),
        ("subject", "boss", True),
        ("subject", "alice@example.com", False),
        ("person", "alice@example.com", True),
        ("person", " Alice@Example.COM ", True),
        ("person", "ａlice@example.com", True),  # noqa: RUF001 (full-width, on purpose)
        ("person", "e-7", True),
        ("person", "boss", True),
        ("person", "https://login.example#boss", True),
        ("person", "mallory@example.com", False),
        ("client", "cli", True),
        ("client", "CLI", False),
        ("client", "a-1", False),
        ("token", "j-1", True),
        ("token", "f-1", True),
        ("token", " j-1 ", True),
        ("token", "j-2", False),
        ("key", "thumb", True),
        ("key", "kid-1", True),
        ("key", "kid-2", False),
        ("session", "s-1", True),
        ("session", "s-2", False),
    ],
)
@pytest.mark.parametrize("way", ["command", "policy"])
async def test_what_a_revocation_hits(office: Office, kind: Kind, value: str, way: str, *, hit: bool) -> None:
    """By command or in the policy, each kind hits what it names, however it is spelt, and nothing else."""
    listed = NOBODY
    if way == "policy":
        listed = Revocation.model_validate({"revoked": [{kind: value}]})
    else:
        await office.revocations.revoke(kind, value, "", "olga")
    assert isinstance(office.objection(ALICE, "s-1", listed), Revoked) is hit
    assert office.objection(principal_of("bob"), "s-9", listed) is None


async def test_nobody_is_believed_before_the_first_look_and_after_the_last(tmp_path: Path) -> None:
    """Not to know is no permission."""
    database = Database(tmp_path / "d.sqlite")
    office = Office(database)
    assert isinstance(office.objection(ALICE), Unavailable)
    await office.revocations.look()
    assert office.objection(ALICE) is None
    office.now += STALE
    assert office.objection(ALICE) is None
    office.now += 0.1
    assert isinstance(office.objection(ALICE), Unavailable)
    await office.revocations.look()
    assert office.objection(ALICE) is None
    database.close()


async def test_another_process_is_heard_at_the_next_look(office: Office, tmp_path: Path) -> None:
    """Two gateways on one database; who waits for news is told."""
    database = Database(tmp_path / "d.sqlite")
    other = Revocations(database)
    entry = await other.revoke("person", "alice@example.com", "left", "olga")
    assert office.objection(ALICE) is None
    assert not office.revocations.more.is_set()
    await office.revocations.look()
    assert isinstance(office.objection(ALICE), Revoked)
    assert office.revocations.more.is_set()
    assert [(found.id, found.value, found.by) for found in await office.revocations.entries()] == [
        (entry.id, "alice@example.com", "olga")
    ]
    database.close()


async def test_a_revocation_is_lifted_once(office: Office) -> None:
    """Then it is in force no more; the others are."""
    first = await office.revocations.revoke("client", "cli", "", "olga")
    second = await office.revocations.revoke("key", "thumb", "", "olga")
    assert await office.revocations.lift(first.id, "olga")
    assert not await office.revocations.lift(first.id, "olga")
    assert isinstance(office.objection(ALICE), Revoked)
    assert await office.revocations.lift(second.id, "olga")
    assert office.objection(ALICE) is None


@pytest.mark.parametrize(
    ("keys", "reached"),
    [
        ({"alice@example.com"}, True),
        ({"https://login.example#a-9", "ALICE@example.com"}, True),
        ({"https://login.example#gone"}, True),
        ({"bob@example.com", "https://login.example#bob"}, False),
        (set(), False),
    ],
)
async def test_people_of_whom_only_keys_are_known(office: Office, keys: Any, *, reached: bool) -> None:
    """Those behind tickets and votes are reached by person and by account."""
    await office.revocations.revoke("person", "alice@example.com", "", "olga")
    await office.revocations.revoke("subject", "gone", "", "olga")
    assert office.revocations.reaches(keys, NOBODY) is reached
