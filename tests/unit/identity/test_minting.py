"""The gateway's own tokens."""

from pathlib import Path

import jwt
import pytest
from mcp_sod.errors import StartError, Unauthenticated
from mcp_sod.identity.assertions import Assertion
from mcp_sod.identity.minting import Mint, issuer_of
from mcp_sod.identity.principal import principal

from tests.unit.identity.saml_making import AUDIENCE, ENTITY, NOW, policy

ALICE = Assertion("_a", "alice", ("staff", "mcp-users"), ("Alice@Example.com", "4711"), NOW + 330, NOW + 3600)


def claims_of(mint: Mint, assertion: Assertion = ALICE) -> dict[str, object]:
    """The claims of a token, verified with the mint's public key."""
    minted = mint.token(assertion, policy(), NOW)
    claims: dict[str, object] = jwt.decode(
        minted.token, mint.public, algorithms=["ES256"], audience=AUDIENCE, options={"verify_exp": False}
    )
    assert (claims["exp"], claims["jti"]) == (minted.expires, minted.id)
    return claims


def test_a_token_says_who_signed_on(tmp_path: Path) -> None:
    """It is an access token of the provider's name for the gateway's audience, with groups and person."""
    mint = Mint(tmp_path / "sign-on.key")
    claims = claims_of(mint)
    assert claims.pop("jti")
    assert claims == {
        "iss": ENTITY, "aud": AUDIENCE, "sub": "alice", "iat": int(NOW), "exp": int(NOW) + 900,
        "groups": ["staff", "mcp-users"], "person": ["Alice@Example.com", "4711"],
    }  # fmt: skip
    head = jwt.get_unverified_header(mint.token(ALICE, policy(), NOW).token)
    assert head == {"typ": "at+jwt", "alg": "ES256", "kid": mint.kid}
    assert mint.public.key_id == mint.kid
    assert "d" not in mint.jwk


@pytest.mark.parametrize(("session", "lasts"), [(NOW + 60, 60), (NOW + 3600, 900), (None, 900)])
def test_a_token_does_not_outlive_the_session(session: float | None, lasts: int, tmp_path: Path) -> None:
    """The lifetime is the policy's, or what is left of the person's session at the provider, if that is less."""
    of_session = Assertion("_a", "alice", (), (), NOW + 330, session)
    assert claims_of(Mint(tmp_path / "sign-on.key"), of_session)["exp"] == int(NOW) + lasts


def test_no_two_tokens_have_one_id(tmp_path: Path) -> None:
    """Each can be revoked by itself."""
    mint = Mint(tmp_path / "sign-on.key")
    assert len({claims_of(mint)["jti"] for _ in range(20)}) == 20


def test_its_principal_is_who_signed_on(tmp_path: Path) -> None:
    """Read as the issuer says that stands for the provider, the token gives the assertion's person and groups."""
    saml = policy()
    found = principal(claims_of(Mint(tmp_path / "sign-on.key")), issuer_of(saml), "f")
    assert (found.account, found.kind) == (f"{ENTITY}#alice", "human")
    assert found.groups == {"staff", "mcp-users"}
    assert found.person == {"alice@example.com", "4711"}
    assert (issuer_of(saml).algorithms, issuer_of(saml).audience, issuer_of(saml).proof) == (
        ["ES256"],
        [AUDIENCE],
        "bearer",
    )


def test_what_no_token_can_hold_is_refused(tmp_path: Path) -> None:
    """Where groups do not fit into what a client can send, nobody gets a token that will not be taken."""
    mint = Mint(tmp_path / "sign-on.key")
    many = Assertion("_a", "alice", tuple(f"group-{at:05}" for at in range(1000)), (), NOW + 330, None)
    assert claims_of(mint, Assertion("_a", "alice", many.groups[:500], (), NOW + 330, None))
    with pytest.raises(Unauthenticated, match="more than a token can hold"):
        mint.token(many, policy(), NOW)


def test_the_key_is_made_once_and_private(tmp_path: Path) -> None:
    """Only the gateway can read it, and the next start has the same; another gateway's is another."""
    file = tmp_path / "sign-on.key"
    kid = Mint(file).kid
    assert file.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["sign-on.key"]
    assert Mint(file).kid == kid
    assert Mint(tmp_path / "other.key").kid != kid


def test_a_key_of_no_use_stops_the_start(tmp_path: Path) -> None:
    """A damaged key, and one that everyone can read, are named, with what to do."""
    file = tmp_path / "sign-on.key"
    Mint(file)
    file.chmod(0o644)
    with pytest.raises(StartError, match="open to every user"):
        Mint(file)
    file.chmod(0o600)
    Mint(file)
    file.write_bytes(b"x")
    with pytest.raises(StartError, match=r"sign-on\.key is no P-256 key"):
        Mint(file)
