"""From claims to a Principal: who it is, and who stands behind it."""

from typing import Any

import pytest
from mcp_sod.errors import Unauthenticated
from mcp_sod.identity.principal import MAX_ACTORS, lookup, principal
from mcp_sod.policy.issuers import Issuer

ISSUER = Issuer.model_validate(
    {
        "issuer": "https://login.example",
        "audience": ["https://mcp.example"],
        "keys": {"file": "jwks.json"},
        "claims": {"groups": "realm_access.roles", "person": ["email", "employee_id"], "actors": ["actor"]},
        "machine": {"claim": "gty", "equals": "client-credentials"},
    }
)
CLAIMS: dict[str, Any] = {"sub": "a-1", "exp": 2_000_000_000, "email": "Alice@Example.com", "employee_id": "7"}


@pytest.mark.parametrize(
    ("changed", "person"),
    [
        ({}, {"alice@example.com", "7"}),
        ({"email_verified": True}, {"alice@example.com", "7"}),
        ({"email_verified": False}, {"7"}),
        ({"email_verified": "false"}, {"7"}),
        ({"email": " ALICE@example.com "}, {"alice@example.com", "7"}),
        ({"email": "ａlice@example.com"}, {"alice@example.com", "7"}),  # noqa: RUF001 (full-width, on purpose)
        ({"email": ["a@x.example", "b@x.example"]}, {"a@x.example", "b@x.example", "7"}),
    ],
)
def test_a_person_is_told_by_keys_that_can_be_trusted(changed: dict[str, Any], person: set[str]) -> None:
    """Spelling does not make another person, and an unverified e-mail address makes none."""
    assert principal(CLAIMS | changed, ISSUER, "f").person == person


@pytest.mark.parametrize("left_out", ["email", "employee_id"])
def test_a_person_cannot_leave_out_what_tells_the_person(left_out: str) -> None:
    """Clients choose what is in a token, by its scopes: each person claim must be there; not so in a machine's."""
    with pytest.raises(Unauthenticated, match=f"it lacks {left_out}"):
        principal(CLAIMS | {left_out: None}, ISSUER, "f")
    assert principal(CLAIMS | {left_out: None, "gty": "client-credentials"}, ISSUER, "f").kind == "machine"


def test_everyone_in_the_chain_of_actors_is_behind_the_call() -> None:
    """RFC 8693 nests actors: each of them counts, by account and by the person's keys."""
    claims = CLAIMS | {"actor": "Bob", "act": {"sub": "c-1", "act": {"sub": "d-1", "email": "d@x.example"}}}
    behind = principal(claims, ISSUER, "f").behind
    assert {"bob", "https://login.example#c-1", "d-1", "d@x.example", "https://login.example#a-1"} <= behind


@pytest.mark.parametrize("depth", [MAX_ACTORS, MAX_ACTORS + 1])
def test_the_chain_of_actors_has_an_end(depth: int) -> None:
    """A chain that is too long is refused, not cut: whoever stands at its end would not count."""
    act: dict[str, Any] = {}
    for _ in range(depth):
        act = {"sub": "x", **({"act": act} if act else {})}
    if depth > MAX_ACTORS:
        with pytest.raises(Unauthenticated, match="actors"):
            principal(CLAIMS | {"act": act}, ISSUER, "f")
    else:
        assert principal(CLAIMS | {"act": act}, ISSUER, "f").actors


@pytest.mark.parametrize(
    ("claims", "path", "found"),
    [
        ({"realm_access": {"roles": ["x"]}}, "realm_access.roles", ["x"]),
        ({"https://x.example/groups": ["y"]}, "https://x.example/groups", ["y"]),
        ({"realm_access": "x"}, "realm_access.roles", None),
        ({}, "groups", None),
    ],
)
def test_claims_are_found_by_path(claims: dict[str, Any], path: str, found: object) -> None:
    """Dots reach into objects; a claim whose own name holds dots comes first."""
    assert lookup(claims, path) == found
