"""Key sets."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.identity.keysets import FRESH, PATIENCE, USABLE, KeySet
from mcp_sod.policy.people import Keys

from tests.world.issuer import Issuer
from tests.world.keys import SigningKey
from tests.world.process import free_port


class Clock:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """The clock of the key set under test."""
    return Clock()


def of_file(folder: Path, *keys: dict[str, Any] | object, clock: Clock) -> KeySet:
    """A key set in a file."""
    (folder / "jwks.json").write_text(json.dumps({"keys": list(keys)}))
    return KeySet(Keys(file="jwks.json"), folder, clock)


ES, ES2, RS = (SigningKey.fresh(algorithm) for algorithm in ("ES256", "ES256", "RS256"))


async def test_a_key_is_found_by_its_id(tmp_path: Path, clock: Clock) -> None:
    """Each published key is known by its id, an unknown id is refused."""
    keys = of_file(tmp_path, ES.jwk, RS.jwk, clock=clock)
    assert (await keys.key(ES.kid)).key_id == ES.kid
    assert (await keys.key(RS.kid)).key_type == "RSA"
    with pytest.raises(Unauthenticated, match="does not publish"):
        await keys.key("other")


async def test_a_token_without_id_has_the_only_key(tmp_path: Path, clock: Clock) -> None:
    """Where there is exactly one key it serves tokens that name none; with two, nothing is guessed."""
    assert (await of_file(tmp_path, ES.jwk, clock=clock).key(None)).key_id == ES.kid
    with pytest.raises(Unauthenticated):
        await of_file(tmp_path, ES.jwk, RS.jwk, clock=clock).key(None)


@pytest.mark.parametrize(
    "odd",
    [
        {"kty": "oct", "k": "c2VjcmV0", "kid": "k", "alg": "HS256"},
        {**ES2.jwk, "kid": "k", "use": "enc"},
        {"kty": "EC", "crv": "P-256", "x": "!", "y": "!", "kid": "k"},
        {"kty": "RSA", "n": 5, "e": [], "kid": "k"},
        {"kty": "quantum", "kid": "k"},
        {"kid": "k"},
        {**ES2.jwk, "kid": "k", "alg": "HS256"},
        "a text",
        None,
    ],
    ids=["symmetric", "encryption", "broken EC", "broken RSA", "unknown type", "no type", "wrong alg", "text", "null"],
)
async def test_a_key_that_cannot_be_used_spoils_no_other(odd: object, tmp_path: Path, clock: Clock) -> None:
    """Symmetric, encryption, broken and unknown keys are left out; the others are used."""
    keys = of_file(tmp_path, odd, ES.jwk, clock=clock)
    assert (await keys.key(ES.kid)).key_id == ES.kid
    with pytest.raises(Unauthenticated):
        await keys.key("k")


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"keys":{}}', "{", "\x00", '{"keys":[]', "[" * 5000])
async def test_what_is_no_key_set_is_not_used(text: str, tmp_path: Path, clock: Clock) -> None:
    """A file that holds no key set refuses calls as unavailable, and says where to look."""
    keys = of_file(tmp_path, ES.jwk, clock=clock)
    (tmp_path / "jwks.json").write_text(text)
    with pytest.raises(Unavailable, match=r"Check .*jwks\.json"):
        await keys.key(ES.kid)


async def test_two_keys_with_one_id_are_none(tmp_path: Path, clock: Clock) -> None:
    """A set in which an id means two keys is not used."""
    with pytest.raises(Unavailable):
        await of_file(tmp_path, {**ES.jwk, "kid": "k"}, {**RS.jwk, "kid": "k"}, clock=clock).key("k")


async def test_a_rotated_key_is_learned_and_the_old_one_forgotten(tmp_path: Path, clock: Clock) -> None:
    """A new key in the file is known as soon as a token names it; the withdrawn one is refused from then on."""
    keys = of_file(tmp_path, ES.jwk, clock=clock)
    await keys.key(ES.kid)
    of_file(tmp_path, ES2.jwk, clock=clock)
    clock.now += PATIENCE
    assert (await keys.key(ES2.kid)).key_id == ES2.kid
    with pytest.raises(Unauthenticated):
        await keys.key(ES.kid)


async def test_a_withdrawn_key_is_forgotten_by_itself(tmp_path: Path, clock: Clock) -> None:
    """Even if no token names the new key, the old one is not used past its freshness."""
    keys = of_file(tmp_path, ES.jwk, clock=clock)
    await keys.key(ES.kid)
    of_file(tmp_path, ES2.jwk, clock=clock)
    clock.now += FRESH
    await keys.key(ES.kid)
    clock.now += 1
    with pytest.raises(Unauthenticated):
        await keys.key(ES.kid)


async def test_unknown_ids_do_not_hammer_the_issuer(issuer: Issuer, tmp_path: Path, clock: Clock) -> None:
    """A flood of tokens with made-up key ids costs one fetch in ten seconds."""
    with issuer.serve() as url:
        keys = KeySet(Keys(url=f"{url}/jwks.json"), tmp_path, clock)
        await asyncio.gather(*(keys.key(issuer.keys[0].kid) for _ in range(5)))
        assert len(issuer.fetched) == 1
        for _ in range(3):
            clock.now += 1
            await asyncio.gather(*(refused(keys, f"made-up-{n}") for n in range(5)))
        assert len(issuer.fetched) == 1
        clock.now += PATIENCE
        await asyncio.gather(*(refused(keys, f"made-up-{n}") for n in range(5)))
        assert len(issuer.fetched) == 2


async def refused(keys: KeySet, kid: str) -> None:
    """The key is refused as unknown."""
    with pytest.raises(Unauthenticated):
        await keys.key(kid)


async def test_known_keys_carry_over_an_outage(issuer: Issuer, tmp_path: Path, clock: Clock) -> None:
    """While the issuer is away its known keys are used for an hour, then nobody is believed; then it is back."""
    with issuer.serve() as url:
        keys = KeySet(Keys(url=f"{url}/jwks.json"), tmp_path, clock)
        kid = issuer.keys[0].kid
        await keys.key(kid)
        issuer.status = 503
        clock.now += USABLE
        await keys.key(kid)
        assert len(issuer.fetched) == 2
        clock.now += PATIENCE
        with pytest.raises(Unavailable, match="cannot be had"):
            await keys.key(kid)
        issuer.status = 200
        clock.now += PATIENCE
        await keys.key(kid)


async def test_an_issuer_that_was_never_reached_is_unavailable(tmp_path: Path, clock: Clock) -> None:
    """With nobody at the address, calls are refused as unavailable, not as wrong."""
    keys = KeySet(Keys(url=f"http://127.0.0.1:{free_port()}/jwks.json"), tmp_path, clock)
    with pytest.raises(Unavailable, match=r"Check http://127"):
        await keys.key("k")


async def test_a_redirect_is_not_followed(issuer: Issuer, tmp_path: Path, clock: Clock) -> None:
    """Keys come from the address in the policy, not from where that one points."""
    with issuer.serve() as url:
        issuer.status = 302
        with pytest.raises(Unavailable):
            await KeySet(Keys(url=f"{url}/jwks.json"), tmp_path, clock).key("k")
