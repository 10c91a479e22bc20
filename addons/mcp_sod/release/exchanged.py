"""Callers' tokens, exchanged for tokens that are meant for an upstream (RFC 8693), and kept for a while."""

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from weakref import WeakValueDictionary

import httpx

from mcp_sod.errors import Denied, Unauthenticated, Unavailable
from mcp_sod.exchange import Exchange
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.secrets import read_secret
from mcp_sod.policy.upstreams import TokenExchange
from mcp_sod.release.token_endpoint import PATIENCE, Failed, Issued, ask

EARLY = 30.0  # seconds before its end from which a token is not shown any more
PAUSE = 2.0  # seconds for which an endpoint that failed is not asked again
MOST = 2000  # tokens kept

type Key = tuple[str, str, bytes]  # policy, upstream, SHA-256 of the caller's token (or nothing: all callers)


@dataclass(frozen=True, slots=True)
class Kept:
    """What an endpoint gave at `came`, to be used before `until`; whoever asked before it came may have it, too."""

    issued: Issued
    came: float
    until: float


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an endpoint gave nothing; it is not asked again before `until`."""

    why: str
    until: float


class Recent[V](OrderedDict[Key, V]):
    """The newest entries, up to MOST."""

    def add(self, key: Key, value: V) -> None:
        """Keep an entry, in place of the oldest where there are too many."""
        self[key] = value
        self.move_to_end(key)
        if len(self) > MOST:
            self.popitem(last=False)


class ExchangedTokens:
    """Exchanges tokens; the calls of one caller share one request, and what came of it, for as long as it may last."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin with nothing known and no connection."""
        self._clock = clock
        self._client: httpx.AsyncClient | None = None
        self._turns: WeakValueDictionary[Key, asyncio.Lock] = WeakValueDictionary()
        self.forget()

    def forget(self) -> None:
        """Forget every token, as when the policy changes."""
        self._kept = Recent[Kept]()
        self._failures = Recent[Failure]()

    async def close(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()

    async def token(self, exchange: Exchange, settings: TokenExchange) -> str:
        """Return the token to show upstream in place of the caller's; raises Denied for another's token, Unavailable.

        Nothing outlives the caller's own token, which is refused once it has expired.
        """
        token, principal, asked = exchange.token, exchange.principal, self._clock()
        if token is None or principal is None:
            raise Unavailable("There is no token of the caller's to exchange for this upstream.")
        _is_for_there(principal.issuer, settings, exchange.policy)
        key = (exchange.policy.digest, exchange.upstream_name or "", hashlib.sha256(token.encode()).digest())
        kept_here = self._kept
        async with self._turns.setdefault(key, asyncio.Lock()):  # copies take turns: one asks, the others find
            if self._clock() >= principal.expires:
                kept_here.pop(key, None)
                raise Unauthenticated("The token has expired.")
            kept = kept_here.get(key)
            if kept is None or (self._clock() >= kept.until and asked > kept.came):
                kept = await self._fetched(key, exchange, settings, token)
                kept_here.add(key, kept)
            return kept.issued.token

    async def _fetched(self, key: Key, exchange: Exchange, settings: TokenExchange, token: str) -> Kept:
        everyone = (*key[:2], b"")
        for place in (key, everyone):
            failure = self._failures.get(place)
            if failure is not None and self._clock() < failure.until:
                raise _unavailable(exchange, failure.why)
        try:
            secret = read_secret(exchange.policy.base, settings.secret)
            found = await ask(await self._opened(), settings, secret, token)
        except Failed as failed:
            place = everyone if failed.for_everyone else key
            self._failures.add(place, Failure(failed.why, self._clock() + PAUSE))
            raise _unavailable(exchange, failed.why) from None
        now = self._clock()
        return Kept(found, now, now + (found.lasts or 0.0) - EARLY)

    async def _opened(self) -> httpx.AsyncClient:
        if self._client is None:
            trust = await asyncio.to_thread(httpx.create_ssl_context)  # reading the certificates takes a while
            if self._client is None:
                self._client = httpx.AsyncClient(
                    verify=trust, timeout=PATIENCE, follow_redirects=False, trust_env=False
                )
        return self._client


def _is_for_there(issuer: str, settings: TokenExchange, policy: Policy) -> None:
    """Check that the token endpoint may see tokens of this issuer at all."""
    known = settings.issuers
    if issuer not in ([one.issuer for one in policy.document.identity] if known is None else known):
        raise Denied("Tokens of your issuer are not exchanged for this upstream.",
                     hint="Sign in with an identity provider that it takes.")  # fmt: skip


def _unavailable(exchange: Exchange, why: str) -> Unavailable:
    operator = f"The token endpoint of upstreams.{exchange.upstream_name} {why}."
    return Unavailable("No token for this upstream could be had for yours.", hint="Try again later.", operator=operator)
