"""Who is revoked, and how it is known."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest
from mcp_sod.database import Database
from mcp_sod.errors import Refusal, Revoked, Unavailable
from mcp_sod.exchange import Principal
from mcp_sod.identity.principal import principal
from mcp_sod.identity.revocations import STALE, Revocations, mark
from mcp_sod.policy.issuers import Issuer
from mcp_sod.policy.people import Kind, Revocation

NOBODY = Revocation()


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


ISSUER = Issuer.model_validate({
    "issuer": "https://login.example", "audience": ["a"], "keys": {"file": "j"}, "machine": "none",
    "claims": {"person": ["email", "number"]},
})  # fmt: skip


def known(subject: str = "a-1", issuer: Issuer = ISSUER, **changed: Any) -> Principal:
    """Whom a token speaks for."""
    claims = {"sub": subject, "exp": 2e9, "email": f"{subject}@example.com", "number": "E-0"}
    return principal({**claims, **changed}, issuer, "f-1", "kid-1")


ALICE = known(
    email="alice@example.com", number="E-7", act={"sub": "boss"}, azp="cli", jti="j-1", cnf={"jkt": "thumb"},
)  # fmt: skip
BOB = principal({"sub": "bob", "exp": 2e9, "email": "bob@example.com", "number": "E-8"}, ISSUER, "f-2", "kid-9")


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
        ("person", "https://login.example#boss", False),
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
    assert office.objection(BOB, "s-9", listed) is None


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


async def test_people_of_whom_only_the_marks_are_known(office: Office) -> None:
    """Those behind tickets and votes are reached by whatever their tokens rested on, then."""
    for kind, value in (("person", "alice@example.com"), ("subject", "boss"), ("token", "j-1"), ("key", "thumb")):
        assert not office.revocations.reaches(ALICE.marks, NOBODY)
        entry = await office.revocations.revoke(cast("Kind", kind), value, "", "olga")
        assert office.revocations.reaches(ALICE.marks, NOBODY)
        assert not office.revocations.reaches(BOB.marks, NOBODY)
        await office.revocations.lift(entry.id, "olga")


async def test_an_issuer_with_a_hash_is_no_way_out(office: Office) -> None:
    """What is issuer and what is subject is known, not read out of one text."""
    odd = ISSUER.model_copy(update={"issuer": "https://odd.example/#tenant"})
    await office.revocations.revoke("subject", "carl", "", "olga")
    assert isinstance(office.objection(known("carl", odd)), Revoked)
    assert office.objection(known("x#carl")) is None
    assert office.objection(known(number="team#carl")) is None


@pytest.mark.parametrize(("kind", "written"), [("token", "ABCDEF0123456789"), ("session", " ABCDEF0123456789 ")])
def test_a_fingerprint_is_read_in_either_case(kind: Kind, written: str) -> None:
    """As it may come from a ticket system that likes capitals."""
    assert mark(kind, written) == (kind, "abcdef0123456789")
