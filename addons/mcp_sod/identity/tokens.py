"""Verifies bearer tokens (RFC 7519, RFC 8725) against the issuers that the policy believes."""

import hashlib
import hmac
import time
from collections import OrderedDict
from collections.abc import Callable

import jwt

from mcp_sod.errors import PolicyError, Unauthenticated, Unavailable
from mcp_sod.exchange import Principal
from mcp_sod.identity.keysets import KeySet
from mcp_sod.identity.principal import principal
from mcp_sod.policy.people import Issuer
from mcp_sod.policy.policy import Policy

MAX_TOKEN = 16 * 1024
SEEN_LIMIT = 10_000
_TYPES = frozenset({"jwt", "at+jwt", "application/at+jwt"})


class Verifier:
    """Turns tokens into Principals for one policy; a token seen before costs one hash."""

    def __init__(self, policy: Policy, fingerprint_key: bytes, clock: Callable[[], float] = time.time) -> None:
        """`fingerprint_key` makes the keyed hash by which records tell tokens apart."""
        key_files_are_there(policy)
        self._where = policy.identity_file
        self._issuers = {issuer.issuer: issuer for issuer in policy.document.identity}
        self._keysets = {name: KeySet(issuer.keys, policy.base) for name, issuer in self._issuers.items()}
        self._fingerprint_key = fingerprint_key
        self._clock = clock
        self._seen: OrderedDict[bytes, tuple[Principal, float]] = OrderedDict()

    async def principal(self, authorization: list[str]) -> Principal:
        """Return who the `Authorization` values (exactly one, `Bearer`) speak for; raises Unauthenticated."""
        if not self._issuers:
            hint = f"Fill in identity: in {self._where.name}."
            raise Unavailable("No identity provider is configured, so every call is refused.", hint=hint)
        token = bearer(authorization)
        mark = hashlib.sha256(token.encode()).digest()
        seen = self._seen.get(mark)
        if seen is not None and self._clock() < min(seen[0].expires, seen[1]):
            self._seen.move_to_end(mark)
            return seen[0]
        found = await self._verified(token, mark)
        self._seen[mark] = (
            found,
            self._clock() + 300,
        )  # a key that its issuer withdrew is believed no longer
        if len(self._seen) > SEEN_LIMIT:
            self._seen.popitem(last=False)
        return found

    async def _verified(self, token: str, mark: bytes) -> Principal:
        try:
            header = jwt.get_unverified_header(token)
            claimed = jwt.decode(token, options={"verify_signature": False}).get("iss")
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise Unauthenticated("The token is not a JWT.") from None
        issuer = self._issuers.get(claimed) if isinstance(claimed, str) else None
        if issuer is None:
            raise Unauthenticated("The token comes from an issuer that is not believed here.")
        _check_header(header, issuer)
        kid = header.get("kid")
        key = await self._keysets[issuer.issuer].key(kid)
        claims = _claims(token, key, issuer)
        fingerprint = hmac.new(self._fingerprint_key, mark, hashlib.sha256).hexdigest()[:16]
        return principal(claims, issuer, fingerprint)


def key_files_are_there(policy: Policy) -> None:
    """Raise PolicyError for an issuer whose key file is missing."""
    for issuer in policy.document.identity:
        if issuer.keys.file is not None and not (file := policy.base / issuer.keys.file).is_file():
            hint = f"Put the issuer's JWKS there, or correct keys: in {policy.identity_file.name}."
            raise PolicyError(f"The key file {file} of issuer {issuer.issuer} is not there.", hint=hint)


def bearer(authorization: list[str]) -> str:
    """Return the one bearer token; raises Unauthenticated (RFC 6750, section 2.1)."""
    if not authorization:
        raise Unauthenticated("The request carries no token.", token_given=False,
                              hint="Send Authorization: Bearer TOKEN.")  # fmt: skip
    scheme, _, token = authorization[0].partition(" ")
    if len(authorization) > 1 or scheme.lower() != "bearer" or not token or len(token) > MAX_TOKEN:
        raise Unauthenticated("The request must carry exactly one bearer token.")
    return token


def _check_header(header: dict[str, object], issuer: Issuer) -> None:
    kind = header.get("typ")
    if kind is not None and not (isinstance(kind, str) and kind.lower() in _TYPES):
        raise Unauthenticated("The token is not an access token (typ).")
    if "crit" in header or "b64" in header:
        raise Unauthenticated("The token uses an extension that is not understood here (crit).")
    if header.get("alg") not in issuer.algorithms:
        raise Unauthenticated("The token is signed with an algorithm that the policy does not allow.")
    if not isinstance(header.get("kid", ""), str):
        raise Unauthenticated("The token's key id is not a text.")


_SENTENCES: list[tuple[type[jwt.PyJWTError], str]] = [
    (jwt.ExpiredSignatureError, "The token has expired."),
    (jwt.ImmatureSignatureError, "The token is not valid yet."),
    (jwt.InvalidAudienceError, "The token is meant for another audience."),
    (jwt.InvalidIssuerError, "The token comes from an issuer that is not believed here."),
    (jwt.MissingRequiredClaimError, "The token lacks a required claim (exp, iss, aud, sub)."),
    (jwt.InvalidSignatureError, "The token's signature does not hold."),
]


def _claims(token: str, key: jwt.PyJWK, issuer: Issuer) -> dict[str, object]:
    try:
        claims: dict[str, object] = jwt.decode(
            token, key, algorithms=list(issuer.algorithms), audience=list(issuer.audience), issuer=issuer.issuer,
            leeway=issuer.leeway, options={"require": ["exp", "iss", "aud", "sub"]},
        )  # fmt: skip
    except jwt.PyJWTError as error:
        sentence = next((text for kind, text in _SENTENCES if isinstance(error, kind)), "The token does not hold.")
        raise Unauthenticated(sentence) from None
    except (TypeError, ValueError, OverflowError):
        raise Unauthenticated("The token does not hold.") from None
    return claims
