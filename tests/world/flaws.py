"""Signing JWTs that are wrong in exactly one way."""

import base64
import hashlib
import hmac
import json
from typing import Any, Literal, get_args

import jwt

from tests.world.keys import SigningKey

Flaw = Literal[
    "alg-none",
    "hs256-with-public-key",
    "wrong-issuer",
    "wrong-audience",
    "expired",
    "not-yet-valid",
    "no-expiry",
    "unknown-kid",
    "bad-signature",
]
FLAWS: tuple[Flaw, ...] = get_args(Flaw)


def sign(payload: dict[str, Any], key: SigningKey, flaw: Flaw | None = None) -> str:
    """A JWT over `payload`, sound but for the one flaw asked for."""
    headers = {"kid": "nobody-knows" if flaw == "unknown-kid" else key.kid}
    claims = _flawed(payload, flaw)
    match flaw:
        case "alg-none":
            return jwt.encode(claims, "", algorithm="none", headers=headers)
        case "hs256-with-public-key":
            return _hs256(claims, key)
        case "bad-signature":
            stranger = SigningKey.fresh(key.algorithm)
            return jwt.encode(claims, stranger.private, algorithm=key.algorithm, headers=headers)
        case _:
            return jwt.encode(claims, key.private, algorithm=key.algorithm, headers=headers)


def _flawed(payload: dict[str, Any], flaw: Flaw | None) -> dict[str, Any]:
    now = payload["iat"]
    match flaw:
        case "wrong-issuer":
            return {**payload, "iss": "https://elsewhere.example"}
        case "wrong-audience":
            return {**payload, "aud": "https://elsewhere.example"}
        case "expired":
            return {**payload, "exp": now - 3600}
        case "not-yet-valid":
            return {**payload, "nbf": now + 3600, "exp": now + 7200}
        case "no-expiry":
            return {name: value for name, value in payload.items() if name != "exp"}
        case _:
            return payload


def _hs256(payload: dict[str, Any], key: SigningKey) -> str:
    """Signs by hand, since PyJWT rightly refuses a public key as an HMAC secret."""
    header = {"alg": "HS256", "typ": "JWT", "kid": key.kid}
    signed = ".".join(_base64url(json.dumps(part).encode()) for part in (header, payload))
    return f"{signed}.{_base64url(hmac.digest(key.public_pem, signed.encode(), hashlib.sha256))}"


def _base64url(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
