"""Proofs of possession (RFC 9449), sound or wrong in one chosen way, written by hand."""

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import jwt

from tests.world.keys import Algorithm, SigningKey

MEMBERS = {"ES256": ("crv", "kty", "x", "y"), "RS256": ("e", "kty", "n"), "EdDSA": ("crv", "kty", "x")}  # RFC 7638


@dataclass(frozen=True, slots=True)
class Key:
    """A key of a sender's that tokens may be bound to."""

    signing: SigningKey

    @classmethod
    def fresh(cls, algorithm: Algorithm = "ES256") -> "Key":
        """A new one."""
        return cls(SigningKey.fresh(algorithm))

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half, with its required members alone."""
        return {name: self.signing.jwk[name] for name in MEMBERS[self.signing.algorithm]}

    @property
    def private_jwk(self) -> dict[str, Any]:
        """Both halves, which nobody may ever send."""
        algorithm = jwt.get_algorithm_by_name(self.signing.algorithm)
        whole = json.loads(algorithm.to_jwk(self.signing.private))
        return self.jwk | {"d": whole["d"]}

    @property
    def thumbprint(self) -> str:
        """What a token that is bound to it names it by (RFC 7638)."""
        return hashed(json.dumps(self.jwk, sort_keys=True, separators=(",", ":")).encode())


@dataclass(frozen=True, slots=True)
class Draft:
    """What is changed about a sound proof; None takes a member away.

    `jwk`: whose public key stands in it; `signer`: who signs it. `private`: the private half stands in it, too.
    """

    header: Mapping[str, Any] = field(default_factory=dict)
    claims: Mapping[str, Any] = field(default_factory=dict)
    later: Mapping[str, float] = field(default_factory=dict)  # times, in seconds from now
    private: bool = False


def proof(request: tuple[str, str], token: str, jwk: Key, signer: Key, draft: Draft) -> str:
    """A proof for one request (method, URL) with this token."""
    now, algorithm = time.time(), signer.signing.algorithm
    method, url = request
    header = {"typ": "dpop+jwt", "alg": algorithm, "jwk": jwk.private_jwk if draft.private else jwk.jwk}
    claims = {"jti": uuid4().hex, "htm": method, "htu": url, "iat": int(now), "ath": hashed(token.encode())}
    claims |= {**draft.claims, **{name: int(now + seconds) for name, seconds in draft.later.items()}}
    parts = [_kept(header | dict(draft.header)), _kept(claims)]
    said = ".".join(_base64url(json.dumps(part).encode()) for part in parts)
    return f"{said}.{_base64url(_signature(said.encode(), parts[0].get('alg'), signer, jwk))}"


def hashed(raw: bytes) -> str:
    """The SHA-256 as tokens and proofs write it."""
    return _base64url(hashlib.sha256(raw).digest())


def _signature(said: bytes, algorithm: object, signer: Key, jwk: Key) -> bytes:
    match algorithm:
        case "none":
            return b""
        case "HS256":  # over what everyone can read
            return hmac.digest(json.dumps(jwk.jwk).encode(), said, hashlib.sha256)
        case _:
            return jwt.get_algorithm_by_name(signer.signing.algorithm).sign(said, signer.signing.private)


def _kept(members: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in members.items() if value is not None}


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
