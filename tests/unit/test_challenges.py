"""What a caller is challenged with."""

from pathlib import Path
from typing import Any

import pytest
from mcp_sod.challenges import challenges
from mcp_sod.errors import Denied, InsufficientScope, ProxyUnauthenticated, Refusal, Unauthenticated
from mcp_sod.policy.policy import Policy

from tests.unit.making import policy_of

ISSUER = {"issuer": "https://l.example", "audience": ["a"], "keys": "discover", "machine": "none"}
WHERE = "https://gw.example/.well-known/oauth-protected-resource/mcp"
META = f'resource_metadata="{WHERE}"'
BARE = Unauthenticated("The request carries no token.", token_given=False)
BAD = Unauthenticated("The token has expired.")
SAID = 'error="invalid_token", error_description="The token has expired."'
ALGORITHMS = 'algs="ES256 ES384 ES512 RS256 PS256 EdDSA"'
ASKED = 'error="use_dpop_nonce", error_description="The proof needs a nonce."'
NONCE = Unauthenticated("The proof needs a nonce.", error="use_dpop_nonce", nonce="n-1")


def policy(folder: Path, *kinds: str, **changed: Any) -> Policy:
    """A policy whose issuers ask for these proofs."""
    issuers = [{**ISSUER, "issuer": f"https://{kind}.example", "proof": kind, **changed} for kind in kinds]
    return policy_of(folder, identity=issuers)


@pytest.mark.parametrize(
    ("kinds", "refusal", "header"),
    [
        (["either"], BARE, f'Bearer realm="gw-test", {META}'),
        (["bearer"], BAD, f'Bearer realm="gw-test", {SAID}, {META}'),
        (["mtls"], BAD, f'Bearer realm="gw-test", {SAID}, {META}'),
        (["dpop"], BARE, f'DPoP realm="gw-test", {META}, {ALGORITHMS}'),
        (["dpop"], BAD, f'DPoP realm="gw-test", {SAID}, {META}, {ALGORITHMS}'),
        (
            ["dpop", "bearer"],
            BARE,
            f'DPoP realm="gw-test", {META}, {ALGORITHMS}, Bearer realm="gw-test", {META}',
        ),
        (
            ["either"],
            NONCE,
            f'DPoP realm="gw-test", {ASKED}, {META}, {ALGORITHMS}',
        ),
    ],
)
def test_a_challenge_fits_the_policy(kinds: list[str], refusal: Refusal, header: str, tmp_path: Path) -> None:
    """RFC 6750, section 3; RFC 9449, section 7.1; RFC 9728, section 5.1."""
    assert challenges(policy(tmp_path, *kinds), refusal, WHERE)["www-authenticate"] == header


def test_a_nonce_has_a_header_of_its_own(tmp_path: Path) -> None:
    """RFC 9449, section 9."""
    assert challenges(policy(tmp_path, "dpop"), NONCE, WHERE)["dpop-nonce"] == "n-1"
    assert "dpop-nonce" not in challenges(policy(tmp_path, "dpop"), BAD, WHERE)


def test_a_scope_that_lacks_is_named(tmp_path: Path) -> None:
    """RFC 6750, section 3.1: clients step up by it."""
    found = challenges(policy(tmp_path, "either"), InsufficientScope("It lacks a.", scope="a b"), None)
    said = 'error="insufficient_scope", error_description="It lacks a.", scope="a b"'
    assert found == {"www-authenticate": f'Bearer realm="gw-test", {said}'}
    proven = challenges(policy(tmp_path, "dpop"), InsufficientScope("It lacks a.", scope="a b"), None)
    assert proven == {"www-authenticate": f'DPoP realm="gw-test", {said}'}
    told = challenges(policy(tmp_path, "either", scopes=["a", "b"]), BARE, None)
    assert told == {"www-authenticate": 'Bearer realm="gw-test", scope="a b"'}


def test_a_proxy_asks_for_proxy_authorization(tmp_path: Path) -> None:
    """RFC 9110, section 11.7.1."""
    found = challenges(policy(tmp_path, "either"), ProxyUnauthenticated("No."), WHERE)
    assert found == {"proxy-authenticate": 'Basic realm="gw-test", Bearer realm="gw-test"'}


def test_other_refusals_challenge_nobody(tmp_path: Path) -> None:
    """A login would not help."""
    assert challenges(policy(tmp_path, "either"), Denied("No."), WHERE) == {}


def test_a_sentence_cannot_break_out(tmp_path: Path) -> None:
    """What stands between quotes has none itself, nor anything but ASCII."""
    found = challenges(policy(tmp_path, "either"), Unauthenticated('a", error="x\\\r\n\u00e9'), None)
    assert found == {
        "www-authenticate": 'Bearer realm="gw-test", error="invalid_token", error_description="a, error=x"'
    }
