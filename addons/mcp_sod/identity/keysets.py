"""Issuers' key sets (RFC 7517), from a file or a URL, kept fresh without holding up other traffic."""

import asyncio
import json
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import jwt

from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.policy.people import Keys

FRESH = 300.0  # seconds after which a key set is fetched again
USABLE = 3600.0  # seconds for which known keys are used while the issuer cannot be reached
PATIENCE = 10.0  # seconds between two attempts: an unknown kid must not make the gateway hammer the issuer
MAX_SIZE = 256 * 1024


class KeySet:
    """The public keys of one issuer."""

    def __init__(self, keys: Keys, base: Path, clock: Callable[[], float] = time.monotonic) -> None:
        """`base`: the folder that a relative file path starts from."""
        self._keys = keys
        self._base = base
        self._clock = clock
        self._known: dict[str | None, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._lock = asyncio.Lock()

    async def key(self, kid: str | None) -> jwt.PyJWK:
        """Return the key of that id; raises Unavailable without usable keys, Unauthenticated for an unknown id."""
        now = self._clock()
        if now - self._fetched > FRESH or kid not in self._known:
            await self._refresh(now)
        if self._clock() - self._fetched > USABLE:
            raise Unavailable("The identity provider's keys cannot be had.", operator=f"Check {self._source()}.")
        found = self._known.get(kid)
        if found is None:
            raise Unauthenticated("The token is signed with a key that its issuer does not publish.")
        return found

    async def _refresh(self, asked: float) -> None:
        async with self._lock:
            if self._tried >= asked or self._clock() - self._tried < PATIENCE:
                return  # someone else has just tried
            self._tried = self._clock()
            try:
                self._known = _by_id(await self._read())
                self._fetched = self._tried
            except (OSError, httpx.HTTPError, ValueError, jwt.PyJWTError):
                return  # what is known stays usable for a while

    async def _read(self) -> bytes:
        if self._keys.file is not None:
            return await asyncio.to_thread((self._base / self._keys.file).read_bytes)
        assert self._keys.url is not None
        async with httpx.AsyncClient(timeout=5.0, follow_redirects=False) as client:
            answer = await client.get(self._keys.url)
            answer.raise_for_status()
            return answer.content

    def _source(self) -> str:
        return self._keys.url or str(self._base / (self._keys.file or ""))


def _by_id(raw: bytes) -> dict[str | None, jwt.PyJWK]:
    """Return the signing keys by id. A set of exactly one key also serves tokens that name none."""
    if len(raw) > MAX_SIZE:
        raise ValueError("key set too large")
    document = json.loads(raw)
    if not isinstance(document, dict) or not isinstance(document.get("keys"), list):
        raise ValueError("not a key set")  # noqa: TRY004 (callers treat every unusable set alike)
    found: dict[str | None, jwt.PyJWK] = {}
    for entry in document["keys"]:
        if not isinstance(entry, dict) or entry.get("use", "sig") != "sig" or entry.get("kty") == "oct":
            continue  # a symmetric key has no place in a published set
        try:
            key = jwt.PyJWK(entry)
        except (jwt.PyJWTError, TypeError, ValueError):
            continue  # a kind of key that we cannot use does not spoil the others
        if key.key_id in found:
            raise ValueError("two keys with one id")
        found[key.key_id] = key
    if len(found) == 1:
        found[None] = next(iter(found.values()))
    return found
