"""What an upstream is told of a call."""

import base64
import hashlib
from pathlib import Path

import pytest
from mcp_sod.policy.upstreams import Assertion
from mcp_sod.release.assertion import Sent, claims

from tests.unit.making import exchange_of, policy_of, principal_of, tool_call

SETTINGS = Assertion(audience="https://tools.example")
SENT = Sent("POST", "https://tools.example/mcp?x=1", b'{"a":1}')


def test_it_says_who_calls_what(tmp_path: Path) -> None:
    """The caller and who stands behind, the roles, for whom it is, for how long, and of which request alone."""
    caller = principal_of("ada", client="cli", actors={"ci", "bob"}, expires=1e12)
    exchange = exchange_of(policy_of(tmp_path), tool_call(), caller)
    exchange.roles = frozenset({"sender", "approver"})
    assert claims(exchange, SETTINGS, SENT, 1000.9) == {
        "aud": "https://tools.example",
        "sub": "ada",
        "sub_iss": "https://login.example",
        "kind": "human",
        "roles": ["approver", "sender"],
        "client": "cli",
        "person": ["ada@example.com"],
        "actors": ["bob", "ci"],
        "iat": 1000,
        "exp": 1060,
        "jti": exchange.reference,
        "htm": "POST",
        "htu": "https://tools.example/mcp?x=1",
        "bod": base64.urlsafe_b64encode(hashlib.sha256(b'{"a":1}').digest()).rstrip(b"=").decode(),
    }


def test_what_is_not_there_is_not_said(tmp_path: Path) -> None:
    """A machine without person, client or actors has no such claims; each request has a name of its own."""
    first, second = (
        exchange_of(policy_of(tmp_path), tool_call(), principal_of("bot", kind="machine", person=set()))
        for _ in range(2)
    )
    said = claims(first, SETTINGS, SENT, 0)
    assert not {"client", "person", "actors"} & said.keys()
    assert (said["kind"], said["roles"]) == ("machine", [])
    other = claims(first, SETTINGS, Sent("GET", "https://tools.example/feed", b""), 0)
    assert (other["htm"], other["htu"]) == ("GET", "https://tools.example/feed")
    assert other["bod"] != said["bod"]
    assert said["jti"] != claims(second, SETTINGS, SENT, 0)["jti"]


@pytest.mark.parametrize("lifetime", [1, 60, 300])
def test_it_lasts_as_long_as_the_policy_says(lifetime: int, tmp_path: Path) -> None:
    """From the moment it was signed."""
    settings = Assertion.model_validate({"audience": "a", "lifetime": f"{lifetime}s"})
    said = claims(exchange_of(policy_of(tmp_path), tool_call()), settings, SENT, 5)
    assert (said["iat"], said["exp"]) == (5, 5 + lifetime)
