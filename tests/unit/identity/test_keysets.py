"""Key sets."""

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.identity.keysets import BURST, FRESH, PAUSE, STEADY, KeySet, jwks_uri
from mcp_sod.identity.web import Web, WebError
from mcp_sod.policy.issuers import Issuer as Believed

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


USABLE = 3600


def keyset(keys: object, base: Path, clock: Clock, issuer: str = "https://login.example") -> KeySet:
    """The key set of an issuer whose keys are there."""
    facts = {"issuer": issuer, "audience": ["a"], "keys": keys, "machine": "none", "usable": f"{USABLE}s"}
    return KeySet(Believed.model_validate(facts), base, Web(), clock)


def of_file(folder: Path, *keys: dict[str, Any] | object, clock: Clock) -> KeySet:
    """A key set in a file."""
    (folder / "jwks.json").write_text(json.dumps({"keys": list(keys)}))
    return keyset({"file": "jwks.json"}, folder, clock)


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
    clock.now += PAUSE
    assert (await keys.key(ES2.kid)).key_id == ES2.kid
    with pytest.raises(Unauthenticated):
        await keys.key(ES.kid)


async def test_a_withdrawn_key_is_forgotten_by_itself(tmp_path: Path, clock: Clock) -> None:
    """Even if no token names the new key, the old one is not used past its freshness and a fetch beside the calls."""
    keys = of_file(tmp_path, ES.jwk, clock=clock)
    old = await keys.key(ES.kid)
    of_file(tmp_path, ES2.jwk, clock=clock)
    clock.now += FRESH
    assert keys.holds(old)
    clock.now += 1
    assert keys.holds(old)  # nobody waits for the fetch that this begins
    await until(lambda: not keys.holds(old))
    with pytest.raises(Unauthenticated):
        await keys.key(ES.kid)


async def until(true: Callable[[], bool]) -> None:
    """Waits until it is so."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.01)


async def test_a_slow_issuer_holds_up_nobody_whose_key_is_known(tmp_path: Path, clock: Clock) -> None:
    """While keys are fetched anew, or an unknown one is looked for, calls with known keys go on at once."""
    web = Slow()
    keys = KeySet(Believed.model_validate(SLOW), tmp_path, web, clock)
    web.open.set()
    known = await keys.key(ES.kid)
    web.open.clear()
    clock.now += FRESH + 1
    unknown = asyncio.create_task(keys.key("other"))
    await asyncio.sleep(0.05)
    assert not unknown.done()
    async with asyncio.timeout(0.5):
        assert await keys.key(ES.kid) is known
        assert keys.holds(known)
    web.open.set()
    with pytest.raises(Unauthenticated):
        await unknown


SLOW = {"issuer": "https://login.example", "audience": ["a"], "keys": {"url": "https://x.example"}, "machine": "none"}


class Slow(Web):
    """An identity provider that answers when it is told to."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()

    async def get(self, _url: str) -> Mapping[str, object]:
        """The keys, in time."""
        await self.open.wait()
        return {"keys": [ES.jwk]}


@pytest.mark.parametrize("path", ["", "/", "/tenant"])
async def test_keys_are_discovered(path: str, tmp_path: Path, clock: Clock) -> None:
    """OpenID Connect Discovery first, then RFC 8414, whose address has the tenant behind the well-known part."""
    with serving() as (base, pages):
        issuer = f"{base}{path}"
        for place in (f"{path.rstrip('/')}/.well-known/openid-configuration",
                      f"/.well-known/oauth-authorization-server{path.rstrip('/')}"):  # fmt: skip
            pages.clear()
            pages |= {place: {"issuer": issuer, "jwks_uri": f"{base}/jwks"}, "/jwks": {"keys": [ES.jwk]}}
            assert (await keyset("discover", tmp_path, clock, issuer).key(ES.kid)).key_id == ES.kid


@pytest.mark.parametrize("wrong", [
    {"issuer": "https://other.example"}, {"issuer": None}, {"jwks_uri": None}, {"jwks_uri": 7},
    {"jwks_uri": "http://elsewhere.example/jwks"}, {"jwks_uri": "file:///etc/passwd"}, {"jwks_uri": "ftp://x/y"},
])  # fmt: skip
async def test_a_discovery_document_that_is_not_the_issuers_is_not_used(wrong: dict[str, object]) -> None:
    """It must name the very issuer, and an address of keys at which nobody listens in."""
    with serving() as (base, pages):
        good = {"issuer": base, "jwks_uri": f"{base}/jwks"}
        pages["/.well-known/openid-configuration"] = good
        assert await jwks_uri(base, Web()) == f"{base}/jwks"
        pages["/.well-known/openid-configuration"] = good | wrong
        with pytest.raises(WebError):
            await jwks_uri(base, Web())


@contextmanager
def serving() -> Iterator[tuple[str, dict[str, object]]]:
    """A server of JSON pages, and the pages."""
    pages: dict[str, object] = {}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = json.dumps(pages.get(self.path)).encode()
            self.send_response(200 if self.path in pages else 404)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", pages
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


async def test_unknown_ids_do_not_hammer_the_issuer(issuer: Issuer, tmp_path: Path, clock: Clock) -> None:
    """A flood of tokens with made-up key ids costs three fetches in a row, and then one in ten seconds."""
    with issuer.serve() as url:
        keys = keyset({"url": f"{url}/jwks.json"}, tmp_path, clock)
        await asyncio.gather(*(keys.key(issuer.keys[0].kid) for _ in range(5)))
        assert len(issuer.fetched) == 1
        for _ in range(8):
            clock.now += PAUSE
            await asyncio.gather(*(refused(keys, f"made-up-{n}") for n in range(5)))
        assert len(issuer.fetched) == BURST
        clock.now += STEADY
        await asyncio.gather(*(refused(keys, f"made-up-{n}") for n in range(5)))
        assert len(issuer.fetched) == BURST + 1


async def refused(keys: KeySet, kid: str) -> None:
    """The key is refused as unknown."""
    with pytest.raises(Unauthenticated):
        await keys.key(kid)


async def test_known_keys_carry_over_an_outage(issuer: Issuer, tmp_path: Path, clock: Clock) -> None:
    """While the issuer is away its known keys are used for an hour, then nobody is believed; then it is back."""
    with issuer.serve() as url:
        keys = keyset({"url": f"{url}/jwks.json"}, tmp_path, clock)
        kid = issuer.keys[0].kid
        await keys.key(kid)
        issuer.status = 503
        clock.now += USABLE
        known = await keys.key(kid)
        assert keys.holds(known)
        await until(lambda: len(issuer.fetched) == 2)
        clock.now += STEADY
        assert not keys.holds(known)
        with pytest.raises(Unavailable, match="cannot be had"):
            await keys.key(kid)
        issuer.status = 200
        clock.now += STEADY
        await keys.key(kid)


async def test_an_issuer_that_was_never_reached_is_unavailable(tmp_path: Path, clock: Clock) -> None:
    """With nobody at the address, calls are refused as unavailable, not as wrong."""
    keys = keyset({"url": f"http://127.0.0.1:{free_port()}/jwks.json"}, tmp_path, clock)
    with pytest.raises(Unavailable, match=r"Check http://127"):
        await keys.key("k")


async def test_a_redirect_is_not_followed(issuer: Issuer, tmp_path: Path, clock: Clock) -> None:
    """Keys come from the address in the policy, not from where that one points."""
    with issuer.serve() as url:
        issuer.status = 302
        with pytest.raises(Unavailable):
            await keyset({"url": f"{url}/jwks.json"}, tmp_path, clock).key("k")


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ({}, "HTTP 404"),
        ({"issuer": "https://other.example/", "jwks_uri": "/jwks"}, 'of another issuer: "https://other.example/", exp'),
        ({"issuer": None}, "without keys (jwks_uri)"),
    ],
)
async def test_the_operator_is_told_why_there_are_no_keys(
    pages: dict[str, object], why: str, tmp_path: Path, clock: Clock
) -> None:
    """What was asked and what came of it are for log and record; the caller hears that keys cannot be had."""
    with serving() as (base, served):
        if pages:
            served["/.well-known/openid-configuration"] = pages | ({} if pages["issuer"] else {"issuer": base})
        with pytest.raises(Unavailable) as refused:
            await keyset("discover", tmp_path, clock, base).key("k")
    assert why in refused.value.operator
    assert base in refused.value.operator
    assert base not in refused.value.for_caller


async def test_a_refused_connection_is_told_as_one(tmp_path: Path, clock: Clock) -> None:
    """Nobody at the address, no file, no JSON: each is said in its own words."""
    address = f"http://127.0.0.1:{free_port()}/jwks.json"
    (tmp_path / "text.json").write_text("x")
    for keys, why in (
        ({"url": address}, "ConnectError: All connection attempts failed"),
        ({"file": "gone.json"}, "No such file or directory"),
        ({"file": "text.json"}, "no JSON"),
    ):
        with pytest.raises(Unavailable) as refused:
            await keyset(keys, tmp_path, clock).key("k")
        assert why in refused.value.operator
