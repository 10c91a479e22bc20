"""Against a certified OpenID provider (npm oidc-provider): keys as they come and go, opaque tokens, bound tokens."""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import jwt
import pytest

from tests.world.keys import SigningKey
from tests.world.process import ROOT
from tests.world.provider import ASKING, OPAQUE, Holder, Provider, believed, thumbprint
from tests.world.scene import Scene, Watch, passed

CACHE = 2  # seconds for which an answer about an opaque token is believed
PAUSE = 1.2  # seconds, a little more than the gateway's own between two looks at a provider's keys
AT_ONCE = 4  # callers


@pytest.fixture(scope="module")
def provider(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Provider]:
    """A provider whose keys stay."""
    with Provider(tmp_path_factory.mktemp("provider")) as running:
        yield running


@pytest.fixture(scope="module")
def scene(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that believes it, about JWTs and opaque tokens, bound or not."""
    with Scene(tmp_path_factory.mktemp("openid"), identity=believed(provider), env=ASKING) as running:
        yield running


@pytest.fixture
def own(tmp_path: Path) -> Provider:
    """A provider that a test starts, stops and gives other keys."""
    return Provider(tmp_path / "provider")


def shown(scene: Scene, token: str, scheme: str = "Bearer", **headers: str) -> httpx.Response:
    """One good call with this token."""
    return scene.call(headers={"Authorization": f"{scheme} {token}", **headers})


def refused(seen: Watch, reply: httpx.Response, error: str = "invalid_token", status: int = 401) -> bool:
    """Whether a call was refused for its token, with a challenge, on record, and went nowhere."""
    assert seen.record(event="rejected", code="unauthenticated")
    challenges = reply.headers["www-authenticate"]
    return (reply.status_code, seen.connections, f'error="{error}"' in challenges) == (status, 0, True)


def unavailable(seen: Watch, reply: httpx.Response) -> bool:
    """Whether a call was refused because it could not be known whose it is, on record, and went nowhere."""
    return '"mcp-sod/code":"unavailable"' in reply.text and seen.connections == 0 and "unavailable" in _codes(seen)


def _codes(seen: Watch) -> list[str]:
    return [record.get("code", "") for record in seen.records if record["event"] == "denied"]


def eventually(test: Callable[[], bool], patience: float = 20) -> bool:
    """Whether it becomes so."""
    deadline = time.monotonic() + patience
    while not (so := test()) and time.monotonic() < deadline:
        time.sleep(0.1)
    return so


# Keys.


def test_a_providers_word_is_checked_by_what_it_publishes(scene: Scene, provider: Provider) -> None:
    """A machine's token and a person's pass; one for another audience, or changed by a letter, goes nowhere."""
    for token, subject, kind in [
        (provider.token(), "agent", "machine"),
        (provider.persons_token("ada"), "ada", "human"),
    ]:
        seen = scene.watch()
        assert passed(shown(scene, token))
        principal = seen.record(event="forwarded")["principal"]
        assert (principal["subject"], principal["kind"], principal["issuer"]) == (subject, kind, provider.url)
        other = "A" if token[-9] != "A" else "B"
        for wrong in (f"{token[:-9]}{other}{token[-8:]}", token[:-1], f"{token}."):
            seen = scene.watch()
            assert refused(seen, shown(scene, wrong))
    seen = scene.watch()
    assert refused(seen, shown(scene, provider.token(audience="https://elsewhere.example")))
    seen = scene.watch()
    reply = shown(scene, provider.token("stranger"))
    assert (reply.status_code, "isError" in reply.text, seen.connections) == (200, True, 0)
    assert seen.record(event="denied")["principal"]["subject"] == "stranger"


@pytest.mark.parametrize("audience", ["https://mcp.example", OPAQUE], ids=["jwt", "opaque"])
@pytest.mark.parametrize("kind", ["access_token", "id_token", "refresh_token"])
def test_only_an_access_token_is_one(scene: Scene, provider: Provider, kind: str, audience: str) -> None:
    """What an app gets beside it, to know who logged in or to get the next, opens nothing here."""
    token = provider.persons_tokens("ada", audience)[kind]
    seen = scene.watch()
    reply = shown(scene, token)
    assert passed(reply) if kind == "access_token" else refused(seen, reply)


def test_before_its_keys_were_had_no_token_of_a_provider_is_believed(own: Provider, tmp_path: Path) -> None:
    """A gateway that starts while the provider is away refuses, on record, and passes calls once it is there."""
    with own:
        token = own.token()
    with Scene(tmp_path, identity=believed(own), env=ASKING) as scene:
        seen = scene.watch()
        assert unavailable(seen, shown(scene, token))
        with own:
            assert eventually(lambda: passed(shown(scene, token)))


def test_while_a_provider_is_away_its_known_keys_serve_for_a_while(own: Provider, tmp_path: Path) -> None:
    """Until `usable` is over, tokens that nobody has seen before pass; after it none does, until it is back."""
    usable = 4
    with Scene(tmp_path, identity=believed(own, usable=f"{usable}s"), env=ASKING) as scene:
        with own:
            known, unseen, late = [own.token() for _ in range(3)]
            assert passed(shown(scene, known))
            fetched = time.monotonic()
        assert passed(shown(scene, unseen))
        time.sleep(usable + 0.2 - (time.monotonic() - fetched))
        seen = scene.watch()
        assert unavailable(seen, shown(scene, late))
        assert unavailable(seen, shown(scene, known))  # seen before, and no longer known to be good
        with own:
            assert eventually(lambda: passed(shown(scene, late)))
            assert passed(shown(scene, known))


def test_keys_rotate_while_calls_flow(own: Provider, tmp_path: Path) -> None:
    """No valid token is refused; a withdrawn key's are once the next key is seen; each new key is fetched once."""
    with own, Scene(tmp_path, identity=believed(own), env=ASKING) as scene:
        old = own.token()
        current = [old]
        results: list[tuple[str, int]] = []
        stop = threading.Event()

        def flow() -> None:
            while not stop.is_set():
                for token in [*current]:
                    results.append((token, shown(scene, token).status_code))  # noqa: PERF401 (it is read meanwhile)

        with ThreadPoolExecutor(AT_ONCE) as pool:
            try:
                callers = [pool.submit(flow) for _ in range(AT_ONCE)]
                time.sleep(PAUSE)
                own.rotate()
                current.append(own.token())
                assert eventually(lambda: results.count((current[-1], 200)) > 2 * AT_ONCE)
            finally:
                stop.set()
            for caller in callers:
                caller.result()
        assert {status for _, status in results} == {200}
        assert results.count((old, 200)) > 2 * AT_ONCE
        assert len(own.requests("/jwks")) == 2
        time.sleep(PAUSE)
        own.rotate()
        own.withdraw()
        assert passed(shown(scene, old))  # withdrawn, which the gateway cannot know yet
        assert passed(shown(scene, own.token()))  # a key that it does not know: now it looks
        assert len(own.requests("/jwks")) == 3
        seen = scene.watch()
        for token in current:
            assert refused(seen, shown(scene, token))


def test_unknown_keys_do_not_make_the_gateway_hammer_the_provider(own: Provider, tmp_path: Path) -> None:
    """Many tokens of many unknown keys: all refused, a few fetches, and good calls pass meanwhile."""
    with own, Scene(tmp_path, identity=believed(own), env=ASKING) as scene:
        good = own.token()
        assert passed(shown(scene, good))
        stranger, claims = SigningKey.fresh("ES256"), jwt.decode(good, options={"verify_signature": False})

        def forged(_: int) -> int:
            headers = {"typ": "at+jwt", "kid": uuid4().hex}
            return shown(scene, jwt.encode(claims, stranger.private, "ES256", headers)).status_code

        seen = scene.watch()
        with ThreadPoolExecutor(AT_ONCE) as pool:
            statuses = pool.map(forged, range(100))
            assert passed(shown(scene, good))
        assert set(statuses) == {401}
        assert len(seen.arrived) == 1
        assert 1 <= len(own.requests("/jwks")) <= 6
        assert len(own.requests("/.well-known/openid-configuration")) <= 6


# Opaque tokens.


def test_an_opaque_token_holds_for_as_long_as_its_issuer_says(scene: Scene, provider: Provider) -> None:
    """Its issuer is asked once in the policy's time; once it was revoked there, it is refused after that time."""
    asked = len(provider.requests("/token/introspection"))
    token = provider.persons_token("ada", OPAQUE)
    seen = scene.watch()
    for _ in range(3):
        assert passed(shown(scene, token))
    assert len(provider.requests("/token/introspection")) == asked + 1
    assert seen.record(event="forwarded")["principal"]["subject"] == "ada"
    time.sleep(CACHE)
    assert passed(shown(scene, token))
    provider.revoke(token)
    time.sleep(CACHE)
    seen = scene.watch()
    assert refused(seen, shown(scene, token))
    assert passed(shown(scene, provider.persons_token("ada", OPAQUE)))


def test_a_machines_opaque_token_speaks_for_its_client(scene: Scene, provider: Provider) -> None:
    """Of a client's own token its issuer names no subject (RFC 7662: optional), but the client."""
    seen = scene.watch()
    assert passed(shown(scene, provider.token(audience=OPAQUE)))
    principal = seen.record(event="forwarded")["principal"]
    assert (principal["subject"], principal["kind"]) == ("agent", "machine")


@pytest.mark.parametrize("audience", [None, "https://elsewhere.example", "nobody's"])
def test_an_opaque_token_that_is_not_for_this_gateway_is_refused(
    scene: Scene, provider: Provider, audience: str | None
) -> None:
    """One for no audience, one for another, and one that its issuer does not know."""
    token = uuid4().hex if audience == "nobody's" else provider.token(audience=audience)
    seen = scene.watch()
    assert refused(seen, shown(scene, token))
    assert passed(shown(scene, provider.persons_token("ada", OPAQUE)))


def test_while_its_issuer_is_away_an_opaque_token_is_refused(own: Provider, tmp_path: Path) -> None:
    """No answer is no yes: it is refused once the time of the last answer is over."""
    with Scene(tmp_path, identity=believed(own), env=ASKING) as scene:
        with own:
            token = own.persons_token("ada", OPAQUE)
            assert passed(shown(scene, token))
        time.sleep(CACHE)
        seen = scene.watch()
        assert unavailable(seen, shown(scene, token))


# Bound tokens.


def bound(scene: Scene, token: str, holder: Holder, proof: str | None = None, **changed: Any) -> httpx.Response:
    """One good call by the holder of the token's key, who proves it again with the gateway's nonce if asked to."""
    first = shown(scene, token, "DPoP", DPoP=proof or holder.proof("POST", scene.echo.url, token, **changed))
    if "use_dpop_nonce" not in first.headers.get("www-authenticate", ""):
        return first
    nonce = first.headers["dpop-nonce"]
    return shown(scene, token, "DPoP", DPoP=holder.proof("POST", scene.echo.url, token, nonce=nonce, **changed))


FLAWS: dict[str, Callable[[Scene, str], dict[str, Any]]] = {
    "another method": lambda _scene, _token: {"htm": "GET"},
    "another address": lambda scene, _token: {"htu": f"{scene.echo.url}/elsewhere"},
    "another host": lambda _scene, _token: {"htu": "https://mcp.example/mcp"},
    "stale": lambda _scene, _token: {"iat": int(time.time()) - 120},
    "from the future": lambda _scene, _token: {"iat": int(time.time()) + 120},
    "another token": lambda _scene, token: {"ath": thumbprint(f"{token}x".encode())},
    "no token": lambda _scene, _token: {"ath": None},
    "no id": lambda _scene, _token: {"jti": None},
}


@pytest.mark.parametrize("audience", ["https://mcp.example", OPAQUE], ids=["jwt", "opaque"])
@pytest.mark.parametrize("flaw", FLAWS)
def test_a_proof_with_one_thing_wrong_is_refused(scene: Scene, provider: Provider, flaw: str, audience: str) -> None:
    """As a DPoP challenge; the same token with a sound proof passes."""
    holder = Holder()
    token = provider.token(audience=audience, holder=holder)
    seen = scene.watch()
    reply = bound(scene, token, holder, **FLAWS[flaw](scene, token))
    assert refused(seen, reply, "invalid_dpop_proof")
    assert reply.headers["www-authenticate"].startswith("DPoP ")
    seen = scene.watch()
    assert passed(bound(scene, token, holder))
    assert all(word.encode() not in seen.arrived[0] for word in (token, "DPoP", "dpop"))


def test_a_stolen_token_is_worth_nothing_without_its_key(scene: Scene, provider: Provider) -> None:
    """As a bearer, with a thief's key, with no proof, or with a proof that was overheard: refused."""
    holder, thief = Holder(), Holder()
    token = provider.token(holder=holder)
    assert passed(bound(scene, token, holder))
    nonce = shown(scene, token, "DPoP", DPoP=holder.proof("POST", scene.echo.url, token, nonce="x")).headers[
        "dpop-nonce"
    ]
    overheard = holder.proof("POST", scene.echo.url, token, nonce=nonce)
    assert passed(shown(scene, token, "DPoP", DPoP=overheard))
    seen = scene.watch()
    assert refused(seen, shown(scene, token))
    assert refused(seen, shown(scene, token, DPoP=holder.proof("POST", scene.echo.url, token, nonce=nonce)))
    assert refused(seen, shown(scene, token, "DPoP"), "invalid_dpop_proof")
    assert refused(seen, bound(scene, token, thief), "invalid_dpop_proof")
    assert refused(seen, shown(scene, token, "DPoP", DPoP=overheard), "invalid_dpop_proof")
    assert passed(bound(scene, token, holder))


def test_only_one_of_many_at_once_may_use_a_proof(scene: Scene, provider: Provider) -> None:
    """A proof that is shown many times at once passes once."""
    holder = Holder()
    token = provider.token(holder=holder)
    nonce = shown(scene, token, "DPoP", DPoP=holder.proof("POST", scene.echo.url, token, nonce="x")).headers[
        "dpop-nonce"
    ]
    proof = holder.proof("POST", scene.echo.url, token, nonce=nonce)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        statuses = pool.map(lambda _: shown(scene, token, "DPoP", DPoP=proof).status_code, range(20))
    assert sorted(statuses) == [200] + [401] * 19


def test_a_plain_token_with_a_proof_is_no_bound_token(scene: Scene, provider: Provider) -> None:
    """A proof beside a token that is bound to nothing makes it no better: as DPoP it is refused."""
    holder = Holder()
    token = provider.token()
    seen = scene.watch()
    assert refused(seen, bound(scene, token, holder))
    assert passed(shown(scene, token))


@pytest.fixture(scope="module")
def strict(provider: Provider, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that takes bound tokens alone, and only proofs with its nonce."""
    identity = believed(provider, proof="dpop", dpop={"nonce": "required"})
    with Scene(tmp_path_factory.mktemp("strict"), identity=identity, env=ASKING) as running:
        yield running


def test_a_nonce_is_asked_for_and_given(strict: Scene, provider: Provider) -> None:
    """The first proof gets a 401 with a nonce, the next one passes; a nonce of nobody's gets another 401 with one."""
    holder = Holder()
    token = provider.token(holder=holder)
    nonces = []
    for nonce in (None, "nobody's"):
        seen = strict.watch()
        reply = shown(strict, token, "DPoP", DPoP=holder.proof("POST", strict.echo.url, token, nonce=nonce))
        assert refused(seen, reply, "use_dpop_nonce")
        nonces.append(reply.headers["dpop-nonce"])
    for nonce in nonces:
        proof = holder.proof("POST", strict.echo.url, token, nonce=nonce)
        assert passed(shown(strict, token, "DPoP", DPoP=proof))


def test_where_the_policy_asks_for_proof_a_plain_token_is_refused(strict: Scene, provider: Provider) -> None:
    """`proof: dpop` takes no token that anyone could use; the client is told so in the challenge."""
    seen = strict.watch()
    for audience in ("https://mcp.example", OPAQUE):
        reply = shown(strict, provider.token(audience=audience))
        assert refused(seen, reply)
        assert "DPoP " in reply.headers["www-authenticate"]
    holder = Holder()
    assert passed(bound(strict, provider.token(holder=holder), holder))


def test_a_provider_that_asks_for_nonces_itself(tmp_path: Path) -> None:
    """Its nonces are no business of the gateway's, nor the gateway's of its."""
    with Provider(tmp_path / "provider", nonce=True) as provider:
        holder = Holder()
        token = provider.token(holder=holder)
        with Scene(tmp_path, identity=believed(provider), env=ASKING) as scene:
            assert passed(bound(scene, token, holder))


# Revoked here, whatever their tokens say.


def revoke(scene: Scene, officer: str, *words: str) -> Any:
    """What the command answers to this officer's token."""
    env = {**os.environ, "SOD_GATEWAY": scene.gateway.console_url, "SOD_TOKEN": officer}
    command: list[str | Path] = [sys.executable, ROOT / "scripts" / "revoke.py", *words, "--json"]
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=True)
    return json.loads(done.stdout)


@pytest.mark.parametrize("audience", ["https://mcp.example", OPAQUE], ids=["jwt", "opaque"])
def test_a_revoked_client_is_refused_with_any_token(scene: Scene, provider: Provider, audience: str) -> None:
    """Its token that passed a moment ago, and a new one; other clients, and itself once it is taken back, pass."""
    before, officer = provider.token(audience=audience), provider.persons_token("olga")
    assert passed(shown(scene, before))
    made = revoke(scene, officer, "client", "agent", "--reason", "it leaks")
    try:
        seen = scene.watch()
        for token in (before, provider.token(audience=audience)):
            reply = shown(scene, token)
            assert (passed(reply), seen.connections) == (False, 0)
        assert seen.record(code="revoked")["principal"]["client"] == "agent"
        assert passed(shown(scene, provider.persons_token("ada", audience)))
    finally:
        revoke(scene, officer, "lift", str(made["id"]))
    assert passed(shown(scene, before))


def test_a_revoked_key_is_no_proof(scene: Scene, provider: Provider) -> None:
    """Tokens that are bound to it are refused, sound proofs or not; those of another key of the same client pass."""
    holder, another = Holder(), Holder()
    token, fresh = provider.token(holder=holder), provider.token(holder=another)
    assert passed(bound(scene, token, holder))
    revoke(scene, provider.persons_token("olga"), "key", holder.thumbprint, "--reason", "its laptop was stolen")
    seen = scene.watch()
    assert not passed(bound(scene, token, holder))
    assert seen.connections == 0
    assert seen.record(code="revoked")
    assert passed(bound(scene, fresh, another))
