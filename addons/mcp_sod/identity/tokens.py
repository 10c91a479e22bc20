"""Verifies tokens (RFC 7519, RFC 8725, RFC 7662) against the issuers that the policy believes."""

import asyncio
import hashlib
import hmac
import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Self

import jwt

from mcp_sod.errors import InsufficientScope, PolicyError, ProxyUnauthenticated, Unauthenticated, Unavailable
from mcp_sod.exchange import Principal
from mcp_sod.identity.introspection import Desk
from mcp_sod.identity.keysets import Keyring, KeySet
from mcp_sod.identity.presented import Credential, Presented, credential
from mcp_sod.identity.principal import Claims, binding, principal, scopes
from mcp_sod.identity.proofs import Proofs
from mcp_sod.identity.signed import check_header, checked_claims, expected, read
from mcp_sod.identity.web import Web
from mcp_sod.policy.issuers import Issuer
from mcp_sod.policy.policy import Policy

SEEN_LIMIT = 10_000
SEEN_FOR = 300.0  # seconds

type Own = Mapping[str, tuple[Issuer, Keyring]]  # issuers whose tokens the gateway makes itself, by name

_NONE: Own = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Seen:
    """A token that was found to hold, until when (seconds since the epoch), and what it rests on."""

    principal: Principal
    issuer: Issuer
    bound: Mapping[str, str]
    until: float
    key: jwt.PyJWK | None
    keyring: Keyring | None

    def holds(self, now: float) -> bool:
        """Say whether it may still be believed: its key may have been withdrawn since."""
        return now < self.until and (self.keyring is None or self.key is None or self.keyring.holds(self.key))


@dataclass(frozen=True, slots=True)
class Kept:
    """What a change of the policy leaves as it is: known keys, used proofs."""

    web: Web
    proofs: Proofs
    keysets: dict[str, KeySet] = field(default_factory=dict)

    def keyset(self, issuer: Issuer, base: Path) -> KeySet:
        """Return an issuer's key set, which is the known one as long as nothing was changed about it."""
        known = self.keysets.get(issuer.issuer)
        if known is None or not known.serves(issuer):
            known = self.keysets[issuer.issuer] = KeySet(issuer, base, self.web)
        return known


class Verifier:
    """Turns tokens into Principals for one policy; a token seen before costs one hash."""

    def __init__(
        self, policy: Policy, fingerprint_key: bytes, clock: Callable[[], float] = time.time, *,
        own: Own = _NONE, kept: Kept | None = None,
    ) -> None:  # fmt: skip
        """`fingerprint_key` makes the keyed hash by which records tell tokens apart."""
        key_files_are_there(policy)
        self._policy = policy
        self._kept = kept or Kept(Web(), Proofs(clock))
        self._issuers = {issuer.issuer: issuer for issuer in policy.document.identity}
        self._issuers |= {name: issuer for name, (issuer, _) in own.items()}
        self._keyrings: dict[str, Keyring] = {name: keyring for name, (_, keyring) in own.items()}
        self._desks: dict[str, Desk] = {}
        for issuer in policy.document.identity:
            if issuer.keys is not None:
                self._keyrings[issuer.issuer] = self._kept.keyset(issuer, policy.base)
            if issuer.introspection is not None:
                self._desks[issuer.issuer] = Desk(issuer, issuer.introspection, policy.base, self._kept.web)
        self._fingerprint_key = fingerprint_key
        self._clock = clock
        self._seen: OrderedDict[bytes, Seen] = OrderedDict()
        self._asking: dict[bytes, asyncio.Future[Claims]] = {}
        self._refused: OrderedDict[bytes, float] = OrderedDict()  # by their issuer, until when

    def under(self, policy: Policy, own: Own) -> Self:
        """Return the verifier for a changed policy; known keys and used proofs stay known, tokens are judged anew."""
        return type(self)(policy, self._fingerprint_key, self._clock, own=own, kept=self._kept)

    def nonce(self) -> str:
        """Return what proofs of this moment may be asked to hold (RFC 9449, section 9)."""
        return self._kept.proofs.nonce()

    async def principal(self, shown: Presented) -> Principal:
        """Return whom the one token speaks for; raises Unauthenticated, InsufficientScope or Unavailable."""
        if not self._issuers:
            hint = f"Fill in identity: in {self._policy.identity_file.name}."
            raise Unavailable("No identity provider is configured, so every call is refused.", hint=hint)
        given = credential(shown)
        try:
            return await self._known(shown, given)
        except Unauthenticated as refused:
            if shown.proxy and not shown.tunnel:
                raise ProxyUnauthenticated(refused.sentence, hint=refused.hint, operator=refused.operator) from None
            raise

    async def _known(self, shown: Presented, given: Credential) -> Principal:
        mark = hashlib.sha256(given.token.encode()).digest()
        seen = self._seen.get(mark)
        if seen is None or not seen.holds(self._clock()):
            seen = await self._verified(given.token, mark)
            _remember(self._seen, mark, seen)
        if seen.bound or given.scheme != "bearer" or seen.issuer.proof in ("dpop", "mtls"):
            self._kept.proofs.check(seen.bound, seen.issuer, shown, given)
        return seen.principal

    async def _verified(self, token: str, mark: bytes) -> Seen:
        signed = read(token)
        if signed is None:
            return await self._opaque(token, mark)
        header, claimed = signed
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise Unauthenticated("The token comes from an issuer that is not believed here.",
                                  operator=expected("iss", claimed, self._issuers))  # fmt: skip
        keyring = self._keyrings.get(issuer.issuer)
        if keyring is None:  # its JWTs, too, are for itself to read
            return await self._asked(token, mark, issuer)
        check_header(header, issuer)
        kid = header.get("kid")
        key = await keyring.key(kid if isinstance(kid, str) else None)
        claims = checked_claims(token, key, issuer)
        found = self._seen_as(claims, issuer, mark, key.key_id)
        until = min(found.expires, self._clock() + SEEN_FOR)
        if issuer.introspection is not None and issuer.introspection.tokens == "all":
            said = await self._said(token, mark, issuer, known=True)
            if said.get("sub", found.subject) != found.subject:
                raise Unauthenticated("The token's issuer says that it is someone else's.")
            until = min(until, self._clock() + issuer.introspection.cache)
        return Seen(found, issuer, binding(claims), until, key, keyring)

    async def _opaque(self, token: str, mark: bytes) -> Seen:
        name = next(iter(self._desks), None)
        if name is None:
            raise Unauthenticated("The token is not a JWT.")
        return await self._asked(token, mark, self._issuers[name])

    async def _asked(self, token: str, mark: bytes, issuer: Issuer) -> Seen:
        """Return what the issuer says of a token that only it can read."""
        assert issuer.introspection is not None
        said = await self._said(token, mark, issuer, known=mark in self._seen)
        later = self._clock() + issuer.introspection.cache
        claims = {"exp": later - issuer.leeway, **said}
        found = self._seen_as(claims, issuer, mark, None)
        return Seen(found, issuer, binding(claims), min(found.expires, later), None, None)

    async def _said(self, token: str, mark: bytes, issuer: Issuer, *, known: bool) -> Claims:
        if self._refused.get(mark, 0.0) > self._clock():
            raise Unauthenticated("The token's issuer says that it does not hold.")
        asking = self._asking.get(mark)
        if asking is None:  # many calls with one token make one question
            asking = self._asking[mark] = asyncio.ensure_future(self._desks[issuer.issuer].claims(token, known=known))
            asking.add_done_callback(lambda done: self._answered(mark, done))
        try:
            return await asyncio.shield(asking)
        except Unauthenticated:
            assert issuer.introspection is not None
            _remember(self._refused, mark, self._clock() + issuer.introspection.cache)
            raise

    def _answered(self, mark: bytes, done: asyncio.Future[Claims]) -> None:
        self._asking.pop(mark, None)
        if not done.cancelled():
            done.exception()  # whoever asked may have gone, and then it is no news

    def _seen_as(self, claims: Claims, issuer: Issuer, mark: bytes, kid: str | None) -> Principal:
        """Return who the claims speak of, once all is checked that no signature says."""
        now, old = self._clock(), _grows_old(claims, issuer)
        if not old >= now:
            raise Unauthenticated("The token is older than the policy allows (max_age).")
        fingerprint = hmac.new(self._fingerprint_key, mark, hashlib.sha256).hexdigest()[:16]
        found = principal(claims, issuer, fingerprint, kid)
        found = replace(found, expires=min(found.expires, old))
        if found.expires <= now:
            raise Unauthenticated("The token has expired.")
        lacking = [scope for scope in issuer.scopes if scope not in scopes(claims)]
        if lacking:
            raise InsufficientScope(f"The token lacks the scope {' '.join(lacking)}.", scope=" ".join(issuer.scopes))
        return found


def _grows_old(claims: Claims, issuer: Issuer) -> float:
    """Return when the token is older than the policy allows, in seconds since the epoch."""
    made = claims.get("iat")
    if issuer.max_age is None:
        return math.inf
    if isinstance(made, bool) or not isinstance(made, int | float):
        raise Unauthenticated("The token does not say when it was made (iat).")
    return made + issuer.max_age + issuer.leeway


def _remember[V](known: OrderedDict[bytes, V], mark: bytes, value: V) -> None:
    known[mark] = value
    known.move_to_end(mark)
    if len(known) > SEEN_LIMIT:
        known.popitem(last=False)


def key_files_are_there(policy: Policy) -> None:
    """Raise PolicyError for an issuer whose key file is missing."""
    for issuer in policy.document.identity:
        if issuer.keys is None or isinstance(issuer.keys, str) or issuer.keys.file is None:
            continue
        if not (file := policy.base / issuer.keys.file).is_file():
            hint = f"Put the issuer's JWKS there, or correct keys: in {policy.identity_file.name}."
            raise PolicyError(f"The key file {file} of issuer {issuer.issuer} is not there.", hint=hint)
