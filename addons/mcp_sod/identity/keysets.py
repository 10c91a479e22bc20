"""Issuers' key sets (RFC 7517), from a file, a URL or discovery, kept fresh without holding up other traffic."""

import asyncio
import json
import time
from collections import deque
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Literal, Protocol
from urllib.parse import urlsplit

import jwt

from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.identity.signed import expected, quoted
from mcp_sod.identity.web import MAX_SIZE, Web, WebError
from mcp_sod.policy.issuers import Issuer, Keys
from mcp_sod.policy.private import private

FRESH = 300.0  # seconds after which a key set is fetched again
PAUSE = 1.0  # seconds between two attempts, and
STEADY = 10.0  # seconds after
BURST = 3  # of them in a minute: unknown key ids must not make the gateway hammer the issuer


class Keyring(Protocol):
    """Where an issuer's keys are."""

    async def key(self, kid: str | None) -> jwt.PyJWK:
        """Return the key of that id; raises Unavailable without usable keys, Unauthenticated for an unknown id."""

    def holds(self, key: jwt.PyJWK) -> bool:
        """Say whether this key is still believed."""


class Fixed:
    """A keyring of one key, which is the gateway's own."""

    def __init__(self, key: jwt.PyJWK) -> None:
        """Hold it for good."""
        self._key = key

    async def key(self, kid: str | None) -> jwt.PyJWK:
        """Return the key; raises Unauthenticated for another id."""
        if kid != self._key.key_id:
            raise Unauthenticated("The token is signed with a key that its issuer does not publish.")
        return self._key

    def holds(self, key: jwt.PyJWK) -> bool:
        """Say whether it is this one."""
        return key is self._key


class KeySet:
    """The public keys of one issuer."""

    def __init__(self, issuer: Issuer, base: Path, web: Web, clock: Callable[[], float] = time.monotonic) -> None:
        """`base`: the folder that a relative file path starts from."""
        assert issuer.keys is not None
        self._issuer = issuer.issuer
        self._keys: Keys | Literal["discover"] = issuer.keys
        self._usable = issuer.usable
        self._base = base
        self._web = web
        self._clock = clock
        self._known: dict[str | None, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._tries: deque[float] = deque(maxlen=BURST)
        self._lock = asyncio.Lock()
        self._behind: asyncio.Task[None] | None = None
        self._problem = "not asked yet"

    def serves(self, issuer: Issuer) -> bool:
        """Say whether this is where the issuer's keys are, and for how long they are usable."""
        return (issuer.issuer, issuer.keys, issuer.usable) == (self._issuer, self._keys, self._usable)

    async def key(self, kid: str | None) -> jwt.PyJWK:
        """Return the key of that id; raises Unavailable without usable keys, Unauthenticated for an unknown id."""
        if kid not in self._known or self._age() > self._usable:
            await self._refresh(self._clock())
        elif self._age() > FRESH:
            self._refresh_behind()
        if self._age() > self._usable:
            raise Unavailable("The identity provider's keys cannot be had.",
                              operator=f"Check {self._source()}: {self._problem}.")  # fmt: skip
        found = self._known.get(kid)
        if found is None:
            published = [known for known in self._known if known is not None]
            raise Unauthenticated("The token is signed with a key that its issuer does not publish.",
                                  operator=expected("kid", kid, published))  # fmt: skip
        return found

    def holds(self, key: jwt.PyJWK) -> bool:
        """Say whether this key is still published, as far as is known; raises nothing and waits for nothing."""
        if self._age() > FRESH:
            self._refresh_behind()
        return self._age() <= self._usable and any(known is key for known in self._known.values())

    def _age(self) -> float:
        return self._clock() - self._fetched

    def _refresh_behind(self) -> None:
        """Fetch the keys while calls go on with the known ones."""
        if self._behind is None or self._behind.done():
            self._behind = asyncio.get_running_loop().create_task(self._refresh(self._clock()))

    async def _refresh(self, asked: float) -> None:
        async with self._lock:
            now = self._clock()
            spent = len(self._tries) == BURST and now - self._tries[0] < 60
            if self._tried > asked or now - self._tried < (STEADY if spent else PAUSE):
                return  # someone else has just tried
            self._tried = now
            self._tries.append(now)
            try:
                self._known = _by_id(await self._read(), self._known)
                self._fetched = now
            except (OSError, WebError, ValueError, jwt.PyJWTError) as error:
                self._problem = _why(error)  # what is known stays usable for a while

    async def _read(self) -> Mapping[str, object]:
        if self._keys == "discover":
            return await self._web.get(await jwks_uri(self._issuer, self._web))
        if self._keys.url is not None:
            return await self._web.get(self._keys.url)
        return _document(await asyncio.to_thread((self._base / (self._keys.file or "")).read_bytes))

    def _source(self) -> str:
        if self._keys == "discover":
            return f"the discovery document of {self._issuer}"
        return self._keys.url or str(self._base / (self._keys.file or ""))


async def jwks_uri(issuer: str, web: Web) -> str:
    """Return where an issuer says that its keys are; raises WebError.

    Sources: OpenID Connect Discovery 1.0, section 4, and RFC 8414, section 3.1, whose address comes second.
    """
    parts = urlsplit(issuer)
    places = (
        f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{parts.path.rstrip('/')}",
    )
    problem = WebError("no discovery document")
    for place in places:
        try:
            found = await web.get(place)
        except WebError as error:
            problem = WebError(f"{place}: {error}")
            continue
        where = found.get("jwks_uri")
        if found.get("issuer") != issuer:
            said = quoted(found.get("issuer"))
            raise WebError(f"{place} is a discovery document of another issuer: {said}, expected {quoted(issuer)}")
        if not isinstance(where, str):
            raise WebError(f"{place} is a discovery document without keys (jwks_uri)")
        return _safe(where)
    raise problem


def _safe(url: str) -> str:
    try:
        return private(url)
    except ValueError:
        raise WebError("keys at an address where anyone could listen in") from None


def _why(error: Exception) -> str:
    match error:
        case WebError():
            return str(error)
        case OSError():
            return error.strerror or type(error).__name__
        case json.JSONDecodeError() | UnicodeDecodeError():
            return "no JSON"
        case jwt.PyJWTError():
            return type(error).__name__
    return str(error)


def _document(raw: bytes) -> Mapping[str, object]:
    if len(raw) > MAX_SIZE:
        raise ValueError("key set too large")
    found = json.loads(raw)
    if not isinstance(found, dict):
        raise ValueError("not a key set")  # noqa: TRY004 (callers treat every unusable set alike)
    return found


def _by_id(document: Mapping[str, object], known: Mapping[str | None, jwt.PyJWK]) -> dict[str | None, jwt.PyJWK]:
    """Return the signing keys by id; one that was `known` stays the same object.

    A set of exactly one key also serves tokens that name none.
    """
    entries = document.get("keys")
    if not isinstance(entries, list):
        raise ValueError("not a key set")  # noqa: TRY004 (callers treat every unusable set alike)
    found: dict[str | None, jwt.PyJWK] = {}
    for entry in entries:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            continue  # a symmetric key has no place in a published set
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, TypeError, ValueError):
            continue  # a kind of key that we cannot use does not spoil the others
        if key.key_id in found:
            raise ValueError("two keys with one id")
        before = known.get(key.key_id)
        found[key.key_id] = before if before is not None and _same(before, entry) else key
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    return found


def _same(key: jwt.PyJWK, entry: Mapping[str, object]) -> bool:
    return bool(key._jwk_data == entry)  # noqa: SLF001 (PyJWT keeps what it was made of, and has no other name for it)
