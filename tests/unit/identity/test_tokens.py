"""Tokens, and whom they speak for."""

import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.errors import PolicyError, ProxyUnauthenticated, Unauthenticated, Unavailable
from mcp_sod.exchange import Principal
from mcp_sod.identity.presented import MAX_TOKEN, Presented, credential
from mcp_sod.identity.signed import quoted
from mcp_sod.identity.tokens import Verifier

from tests.unit.cases import rows
from tests.unit.identity.token_making import Gives, Token, token_of
from tests.unit.making import policy_of
from tests.world.issuer import Issuer
from tests.world.policies import identity


def verifier(folder: Path, *issuers: Issuer, clock: Callable[[], float] = time.time, **changed: Any) -> Verifier:
    """The verifier of a policy that believes these issuers."""
    sections = identity(*issuers)
    for section in sections["identity"]:
        section["claims"] |= changed.get("claims", {})
        section |= {name: value for name, value in changed.items() if name != "claims"}
    return Verifier(policy_of(folder, **sections), b"k" * 32, clock)


def sent(*authorization: str) -> Presented:
    """A request with these `Authorization` headers."""
    return Presented(authorization)


@pytest.mark.parametrize(("_policy", "case"), rows("identity", Token, "tokens"))
async def test_a_token_is_believed_or_refused(_policy: object, case: Token, issuer: Issuer, tmp_path: Path) -> None:
    """A sound token gives its principal; anything wrong with it is a 401 that says what."""
    changed: dict[str, Any] = {"claims": case.paths, "machine": case.machine, "algorithms": case.algorithms}
    token = token_of(case, issuer)
    found = verifier(tmp_path, issuer, **{name: value for name, value in changed.items() if value is not None})
    lines = [line.replace("{}", token) for line in case.sent]
    assert (case.gives is None) != (case.says is None)
    if case.says is not None:
        with pytest.raises(Unauthenticated) as refused:
            await found.principal(sent(*lines))
        assert case.says in refused.value.sentence
        assert bool(refused.value.error) == bool(case.sent)
        return
    principal = await found.principal(sent(*lines))
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
        assert (await both.principal(sent(f"Bearer {issuer.token('alice')}"))).account == f"{issuer.url}#alice"
    with pytest.raises(Unauthenticated, match="does not publish"):
        await both.principal(sent(f"Bearer {one.token('alice', iss=other.url)}"))


async def test_a_person_with_two_accounts_is_one_person(tmp_path: Path) -> None:
    """Accounts of two issuers that share an address meet; those of two people with one name do not."""
    one, other = Issuer(tmp_path / "1", "https://one.example"), Issuer(tmp_path / "2", "https://two.example")
    both = verifier(tmp_path, one, other)
    alice = await both.principal(sent(f"Bearer {one.token('alice', email='alice@example.com')}"))
    again = await both.principal(sent(f"Bearer {other.token('a.liddell', email='ALICE@example.com')}"))
    namesake = await both.principal(sent(f"Bearer {other.token('alice', email='alice@two.example')}"))
    assert alice.behind & again.behind
    assert not alice.behind & namesake.behind


async def test_without_issuers_nobody_is_believed(tmp_path: Path) -> None:
    """With no identity provider every call is refused, and the refusal names the file to edit."""
    with pytest.raises(Unavailable, match=r"Fill in identity: in .*policy\.yaml"):
        await Verifier(policy_of(tmp_path), b"k").principal(sent("Bearer x"))


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
    first = await found.principal(sent(f"Bearer {token}"))
    now[0] += 299
    assert await found.principal(sent(f"Bearer {token}")) is first
    now[0] += 2
    assert await found.principal(sent(f"Bearer {token}")) is not first


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
        await found.principal(sent(f"Bearer {token}"))
    now[0] += 5
    with pytest.raises(Unauthenticated, match="has expired"):
        await found.principal(sent(f"Bearer {token}"))


async def test_a_refused_token_is_not_remembered(issuer: Issuer, tmp_path: Path) -> None:
    """A token that was refused is looked at again, and again refused."""
    found = verifier(tmp_path, issuer)
    bad = issuer.token("alice", flaw="bad-signature")
    for _ in range(2):
        with pytest.raises(Unauthenticated):
            await found.principal(sent(f"Bearer {bad}"))
    await found.principal(sent(f"Bearer {issuer.token('alice')}"))


def test_a_huge_token_is_not_looked_at() -> None:
    """A token beyond the limit is refused before anything decodes it."""
    assert credential(sent("Bearer " + "x" * MAX_TOKEN)).token
    with pytest.raises(Unauthenticated):
        credential(sent("Bearer " + "x" * (MAX_TOKEN + 1)))


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
            await found.principal(sent(f"Bearer {odd}"))


async def test_what_a_token_claims_is_for_the_operator_alone(issuer: Issuer, tmp_path: Path) -> None:
    """A wrong audience, issuer or key is told to log and record with what is expected, cut, and not to the caller."""
    found = verifier(tmp_path, issuer)
    header = {"kid": "old-key", "alg": "ES256"}
    wrong = {
        issuer.token("alice", aud="https://x.example"): 'aud "https://x.example", expected one of ["',
        issuer.token("alice", aud=["y" * 300]): 'aud ["' + "y" * 254 + "…, expected one of",
        issuer.token("alice", iss="https://other.example/"): 'iss "https://other.example/", expected one of ["https://',
        issuer.token("alice", aud=None): "It has no aud.",
        token_of(Token(name="kid", header=header), issuer): f'kid "old-key", expected one of ["{issuer.keys[0].kid}"',
        token_of(Token(name="alg", header={"alg": "PS512"}), issuer): 'alg "PS512", expected one of ["ES256"',
    }
    for token, said in wrong.items():
        with pytest.raises(Unauthenticated) as refused:
            await found.principal(sent(f"Bearer {token}"))
        assert said in refused.value.told
        assert refused.value.operator
        assert refused.value.operator not in refused.value.for_caller
        with pytest.raises(ProxyUnauthenticated) as by_proxy:
            await found.principal(Presented((), proxy=(f"Bearer {token}",)))
        assert by_proxy.value.operator == refused.value.operator


def test_a_claim_that_is_too_deep_is_not_shown() -> None:
    """Whatever was claimed, there is a line of it; a foreign letter is no letter for a terminal."""
    deep: list[object] = []
    for _ in range(100_000):
        deep = [deep]
    assert quoted(deep) == "(too deep to show)"
    assert quoted("a\x1b\n\u202e") == '"a\\u001b\\n\\u202e"'
