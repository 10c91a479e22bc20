"""Proofs that the sender holds the key which a token is bound to: DPoP (RFC 9449) and mTLS (RFC 8705)."""

import hashlib
import hmac
import secrets
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

import jwt

from mcp_sod.challenges import DPOP_ALGORITHMS
from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.identity.presented import Credential, Presented
from mcp_sod.policy.addresses import route
from mcp_sod.policy.issuers import Dpop, Issuer
from mcp_sod.signing_key import jwk_thumbprint, thumbprint

MAX_PROOF = 8 * 1024  # characters
MOST = 200_000  # proofs remembered at once
SHARE = 20_000  # of one key
NONCE_LIFE = 300  # seconds
SKEW = 5  # seconds that a proof may lie in the future


class Proofs:
    """Checks proofs, and takes each once."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        """Begin with no proof seen: what was made before this moment may have been seen by an earlier life."""
        self._clock = clock
        self._began = clock()
        self._seen: OrderedDict[bytes, tuple[float, str]] = OrderedDict()  # until when, and whose
        self._shares: Counter[str] = Counter()
        self._nonce_key = secrets.token_bytes(32)

    def check(self, bound: Mapping[str, str], issuer: Issuer, shown: Presented, given: Credential) -> None:
        """Raise Unauthenticated unless the sender has proven to hold the keys that the token is bound to.

        `bound`: the token's `cnf`.
        """
        _fits_policy(bound, issuer, given)
        if "x5t#S256" in bound and not _same(bound["x5t#S256"], shown.certificate or ""):
            raise Unauthenticated("The token is bound to a client certificate that this connection did not show.")
        if "jkt" in bound:
            self._dpop(bound["jkt"], issuer.dpop, shown, given.token)

    def nonce(self, *, back: int = 0) -> str:
        """Return the nonce of this time, or of `back` times before."""
        period = int(self._clock()) // NONCE_LIFE - back
        return thumbprint(hmac.digest(self._nonce_key, str(period).encode(), hashlib.sha256)[:18])

    def _dpop(self, jkt: str, rules: Dpop, shown: Presented, token: str) -> None:
        """Check the proof (RFC 9449, section 4.3)."""
        if len(shown.proofs) != 1 or len(shown.proofs[0]) > MAX_PROOF:
            raise _wrong("The request must carry exactly one proof for its token (DPoP).")
        if not shown.urls:
            raise Unavailable("The gateway does not know its own address, which proofs are checked against.",
                              operator="Put it into gateway.public.")  # fmt: skip
        claims, holder = _verified(shown.proofs[0])
        if not _same(holder, jkt):
            raise _wrong("The proof is made with another key than the token's.")
        if claims.get("htm") != shown.method:
            raise _wrong("The proof is for another HTTP method (htm).")
        if _plain(claims.get("htu")) not in shown.urls:
            raise _wrong("The proof is for another address (htu).")
        if not _same(str(claims.get("ath")), thumbprint(hashlib.sha256(token.encode()).digest())):
            raise _wrong("The proof is for another token (ath).")
        self._is_fresh(claims, rules)
        self._is_new(holder, claims, rules)

    def _is_fresh(self, claims: Mapping[str, object], rules: Dpop) -> None:
        made, nonce, now = claims.get("iat"), claims.get("nonce"), self._clock()
        if isinstance(made, bool) or not isinstance(made, int | float):
            raise _wrong("The proof does not say when it was made (iat).")
        if not now - rules.age <= made <= now + SKEW:
            raise _wrong("The proof is too old, or from the future (iat).")
        if nonce is not None:
            if not (isinstance(nonce, str) and any(_same(nonce, self.nonce(back=back)) for back in (0, 1))):
                raise self._demand("The proof has a nonce that is not of this gateway, or is over.")
        elif rules.nonce == "required" or made < self._began + SKEW:
            # Before its start, or after a restart, the gateway may have seen the proof and forgotten it.
            raise self._demand("The proof needs a nonce of this gateway.")

    def _demand(self, sentence: str) -> Unauthenticated:
        return Unauthenticated(sentence, error="use_dpop_nonce", nonce=self.nonce())

    def _is_new(self, holder: str, claims: Mapping[str, object], rules: Dpop) -> None:
        name, now = claims.get("jti"), self._clock()
        if not isinstance(name, str) or not 0 < len(name) <= 256:
            raise _wrong("The proof has no usable id (jti).")
        self._forget(now)
        if len(self._seen) >= MOST:
            raise Unavailable("Too many proofs at once.", hint="Try again in a minute.")
        if self._shares[holder] >= SHARE:
            raise Unavailable("Too many proofs of one key at once.", hint="Try again in a minute.")
        mark = hashlib.sha256(f"{holder} {name}".encode()).digest()[:16]
        if mark in self._seen:
            raise _wrong("The proof was used before (jti).")
        self._seen[mark] = now + max(rules.age, NONCE_LIFE) + 2 * SKEW, holder
        self._shares[holder] += 1

    def _forget(self, now: float) -> None:
        while self._seen and next(iter(self._seen.values()))[0] < now:
            _, (_, holder) = self._seen.popitem(last=False)
            self._shares[holder] -= 1
            if not self._shares[holder]:
                del self._shares[holder]


def _fits_policy(bound: Mapping[str, str], issuer: Issuer, given: Credential) -> None:
    allowed = {"bearer": frozenset[str](), "dpop": {"jkt"}, "mtls": {"x5t#S256"}, "either": {"jkt", "x5t#S256"}}
    if issuer.proof in ("dpop", "mtls") and not bound.keys() >= allowed[issuer.proof]:
        raise Unauthenticated(
            "The token is not bound to its sender, as the policy demands (proof).",
            hint=f"Ask for a {issuer.proof} token.",
        )
    if not bound.keys() <= allowed[issuer.proof]:
        raise Unauthenticated("The token is bound to its sender in a way that the policy does not take (proof).")
    if ("jkt" in bound) != (given.scheme == "dpop"):
        raise Unauthenticated(
            "A token that is bound to a DPoP key comes as Authorization: DPoP, and no other does.",
            error="invalid_token",
        )


def _verified(proof: str) -> tuple[Mapping[str, object], str]:
    """Return the proof's claims and the thumbprint of the key it was made with; raises Unauthenticated."""
    try:
        header = jwt.get_unverified_header(proof)
        key = header.get("jwk")
        if header.get("typ") != "dpop+jwt" or header.get("alg") not in DPOP_ALGORITHMS or "crit" in header:
            raise _wrong("The proof is not a DPoP proof (typ, alg).")
        if not isinstance(key, dict) or {"d", "k", "p", "q"} & key.keys():
            raise _wrong("The proof does not hold a public key (jwk).")
        claims = jwt.decode(proof, jwt.PyJWK({**key, "use": "sig"}, header["alg"]), algorithms=[header["alg"]],
                            options={"verify_aud": False, "verify_iat": False, "require": ["jti", "iat"]})  # fmt: skip
        return claims, jwk_thumbprint(key)
    except jwt.InvalidSignatureError:
        raise _wrong("The proof is not signed with the key that it holds (jwk).") from None
    except jwt.ExpiredSignatureError:
        raise _wrong("The proof is over (exp).") from None
    except jwt.MissingRequiredClaimError as error:
        raise _wrong(f"The proof has no {error.claim}.") from None
    except (jwt.PyJWTError, ValueError, TypeError, KeyError, AttributeError, RecursionError, OverflowError):
        raise _wrong("The proof cannot be read: it is no JWT, or its key or claims have no usable form.") from None


def _plain(address: object) -> str | None:
    """Return an address without query and fragment, in the one form of equal addresses."""
    if not isinstance(address, str):
        return None
    try:
        parts = urlsplit(address)
        return route(parts._replace(query="", fragment="").geturl()) if parts.scheme in ("http", "https") else None
    except ValueError:
        return None


def _same(one: str, other: str) -> bool:
    return hmac.compare_digest(one.encode(), other.encode())


def _wrong(sentence: str) -> Unauthenticated:
    return Unauthenticated(sentence, error="invalid_dpop_proof")
