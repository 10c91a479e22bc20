"""Tokens, and whom they speak for."""

import json
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import jwt
import pytest
from mcp_sod.errors import PolicyError, Unauthenticated, Unavailable
from mcp_sod.exchange import Principal
from mcp_sod.identity.tokens import MAX_TOKEN, Verifier, bearer
from pydantic import Field

from tests.unit.cases import Case, Part, rows
from tests.unit.making import policy_of
from tests.world.flaws import Flaw
from tests.world.issuer import AUDIENCE, Issuer
from tests.world.keys import Algorithm
from tests.world.policies import identity


class Gives(Part):
    """What a principal must be; what is left out may be anything."""

    subject: str
    kind: Literal["human", "machine"] | None = None
    groups: list[str] | None = None
    person: list[str] | None = None
    actors: list[str] | None = None
    client: str | None = None


class Token(Case):
    """A good token with one change, and the principal it gives or the sentence that refuses it."""

    flaw: Flaw | None = None
    algorithm: Algorithm = "ES256"
    header: Mapping[str, Any] = Field(default_factory=dict)
    claims: Mapping[str, Any] = Field(default_factory=dict)  # null takes a claim away
    later: Mapping[str, int] = Field(default_factory=dict)  # times, in seconds from now
    lifetime: int = 300
    chain: int = 0  # this many actors, one behind the other
    paths: Mapping[str, Any] = Field(default_factory=dict)
    machine: Literal["none"] | None = None
    algorithms: list[str] | None = None
    sent: list[str] = Field(default=["Bearer {}"])
    gives: Gives | None = None
    says: str | None = None


def verifier(folder: Path, *issuers: Issuer, clock: Callable[[], float] = time.time, **changed: Any) -> Verifier:
    """The verifier of a policy that believes these issuers."""
    sections = identity(*issuers)
    for section in sections["identity"]:
        section["claims"] |= changed.get("claims", {})
        section |= {name: value for name, value in changed.items() if name != "claims"}
    return Verifier(policy_of(folder, **sections), b"k" * 32, clock)


def token_of(case: Token, issuer: Issuer) -> str:
    """The token that a row speaks of."""
    now = int(time.time())
    claims: dict[str, Any] = {"email": "alice@example.com", **case.claims}
    claims |= {name: now + seconds for name, seconds in case.later.items()}
    for _ in range(case.chain):
        claims["act"] = {"sub": "a", **({"act": claims["act"]} if "act" in claims else {})}
    if case.flaw:
        return issuer.token("alice", flaw=case.flaw)
    payload = {
        "iss": issuer.url,
        "sub": "alice",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + case.lifetime,
        "groups": ["mcp-users"],
    }
    payload = {name: value for name, value in {**payload, **claims}.items() if value is not None}
    key = issuer.key(case.algorithm)
    header = {"kid": key.kid, "alg": key.algorithm, "typ": "JWT", **case.header}
    return encoded(header, payload, key.private, key.algorithm)


def encoded(header: Mapping[str, Any], payload: Mapping[str, Any], private: Any, algorithm: str) -> str:
    """A compact JWS over any header whatever: PyJWT would refuse to write some of these."""
    parts = ".".join(jwt.utils.base64url_encode(json.dumps(part).encode()).decode() for part in (header, payload))
    signer = jwt.get_algorithm_by_name(algorithm)
    return f"{parts}.{jwt.utils.base64url_encode(signer.sign(parts.encode(), private)).decode()}"


@pytest.mark.parametrize(("_policy", "case"), rows("identity", Token))
async def test_a_token_is_believed_or_refused(_policy: object, case: Token, issuer: Issuer, tmp_path: Path) -> None:
    """A sound token gives its principal; anything wrong with it is a 401 that says what."""
    changed: dict[str, Any] = {"claims": case.paths, "machine": case.machine, "algorithms": case.algorithms}
    token = token_of(case, issuer)
    found = verifier(tmp_path, issuer, **{name: value for name, value in changed.items() if value is not None})
    sent = [line.replace("{}", token) for line in case.sent]
    assert (case.gives is None) != (case.says is None)
    if case.says is not None:
        with pytest.raises(Unauthenticated) as refused:
            await found.principal(sent)
        assert case.says in refused.value.sentence
        assert bool(refused.value.challenge) == bool(case.sent)
        return
    principal = await found.principal(sent)
    assert facts(principal, case.gives) == case.gives
    assert principal.fingerprint
    assert principal.fingerprint not in token


def facts(principal: Principal, wanted: Gives | None) -> Gives:
    """What the principal is, where the row asks for it."""
    assert wanted is not None
    known = {name: getattr(principal, name) for name, value in wanted if value is not None}
    return Gives.model_validate(
        {name: sorted(value) if isinstance(value, frozenset) else value for name, value in known.items()}
    )


async def test_each_issuer_answers_for_itself(tmp_path: Path) -> None:
    """With two issuers, each one's tokens hold, and neither can sign for the other."""
    one, other = Issuer(tmp_path / "1", "https://one.example"), Issuer(tmp_path / "2", "https://two.example")
    both = verifier(tmp_path, one, other)
    for issuer in (one, other):
        assert (await both.principal([f"Bearer {issuer.token('alice')}"])).account == f"{issuer.url}#alice"
    with pytest.raises(Unauthenticated, match="does not publish"):
        await both.principal([f"Bearer {one.token('alice', iss=other.url)}"])


async def test_a_person_with_two_accounts_is_one_person(tmp_path: Path) -> None:
    """Accounts of two issuers that share an address meet; those of two people with one name do not."""
    one, other = Issuer(tmp_path / "1", "https://one.example"), Issuer(tmp_path / "2", "https://two.example")
    both = verifier(tmp_path, one, other)
    alice = await both.principal([f"Bearer {one.token('alice', email='alice@example.com')}"])
    again = await both.principal([f"Bearer {other.token('a.liddell', email='ALICE@example.com')}"])
    namesake = await both.principal([f"Bearer {other.token('alice', email='alice@two.example')}"])
    assert alice.behind & again.behind
    assert not alice.behind & namesake.behind


async def test_without_issuers_nobody_is_believed(tmp_path: Path) -> None:
    """With no identity provider every call is refused, and the refusal names the file to edit."""
    with pytest.raises(Unavailable, match=r"Fill in identity: in .*policy\.yaml"):
        await Verifier(policy_of(tmp_path), b"k").principal(["Bearer x"])


def test_a_key_file_must_be_there(issuer: Issuer, tmp_path: Path) -> None:
    """A missing key file stops the start, with file and remedy; one that is there does not."""
    verifier(tmp_path, issuer)
    issuer.jwks_file.unlink()
    with pytest.raises(PolicyError, match=r"jwks\.json of issuer https://login\.example is not there\. Put"):
        verifier(tmp_path, issuer)


async def test_a_known_token_is_not_verified_again(issuer: Issuer, tmp_path: Path) -> None:
    """A token seen before costs no signature, for five minutes: after that its key must still be published."""
    now = [time.time()]
    found = verifier(tmp_path, issuer, clock=lambda: now[0])
    token = issuer.token("alice", lifetime=3600)
    first = await found.principal([f"Bearer {token}"])
    now[0] += 299
    assert await found.principal([f"Bearer {token}"]) is first
    now[0] += 2
    assert await found.principal([f"Bearer {token}"]) is not first


async def test_a_known_token_does_not_outlive_its_expiry(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the second in which it expires (and the leeway is over), a token is refused, however often it was seen."""
    now = [time.time()]

    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> "Clock":
            return cls.fromtimestamp(now[0], tz or UTC)

    monkeypatch.setattr("jwt.api_jwt.datetime", Clock)
    found = verifier(tmp_path, issuer, clock=lambda: now[0])
    token = issuer.token("alice", lifetime=60)
    for seconds in (0, 30, 29, 29):
        now[0] += seconds
        await found.principal([f"Bearer {token}"])
    now[0] += 5
    with pytest.raises(Unauthenticated, match="has expired"):
        await found.principal([f"Bearer {token}"])


async def test_a_refused_token_is_not_remembered(issuer: Issuer, tmp_path: Path) -> None:
    """A token that was refused is looked at again, and again refused."""
    found = verifier(tmp_path, issuer)
    bad = issuer.token("alice", flaw="bad-signature")
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await found.principal([f"Bearer {bad}"])
    await found.principal([f"Bearer {issuer.token('alice')}"])


def test_a_huge_token_is_not_looked_at() -> None:
    """A token beyond the limit is refused before anything decodes it."""
    assert bearer(["Bearer " + "x" * MAX_TOKEN])
    with pytest.raises(Unauthenticated):
        bearer(["Bearer " + "x" * (MAX_TOKEN + 1)])


@pytest.mark.parametrize("says", ["e30", "W10", "Im4i", "bnVsbA", "eyJhIjog", "W1tbW1tbW1s"])
async def test_odd_tokens_are_no_trouble(says: str, issuer: Issuer, tmp_path: Path) -> None:
    """Whatever JSON or rubbish stands in a token's parts, the answer is 401."""
    found = verifier(tmp_path, issuer)
    head, body, signature = issuer.token("alice").split(".")
    for odd in (
        f"{says}.{body}.{signature}",
        f"{head}.{says}.{signature}",
        f"{says}.{says}.{says}",
        f"..{says}",
        f"{head}.{body}.{says}",
    ):
        with pytest.raises(Unauthenticated):
            await found.principal([f"Bearer {odd}"])
