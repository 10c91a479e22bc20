"""Signs what upstreams are told of a call, and publishes the keys that verify it (RFC 7517)."""

from pathlib import Path

import jwt

from mcp_sod.signing_key import ALGORITHM, SigningKey, open_key

TYPE = "sod-assertion+jwt"


class Signer:
    """Signs for the gateway `issuer`; beside the key itself, that before it stays published."""

    def __init__(self, issuer: str, key: SigningKey, previous: SigningKey | None = None) -> None:
        """`previous`: the key before a rotation, whose last assertions may still be on their way."""
        self.issuer = issuer
        self._key = key
        self._published = [key.jwk, *([previous.jwk] if previous and previous.jwk != key.jwk else [])]

    @property
    def published(self) -> dict[str, list[dict[str, str]]]:
        """The key set for upstreams."""
        return {"keys": self._published}

    def sign(self, claims: dict[str, object]) -> str:
        """Return the claims as a JWT of this issuer."""
        headers = {"typ": TYPE, "kid": self._key.jwk["kid"]}
        return jwt.encode({"iss": self.issuer, **claims}, self._key.private, ALGORITHM, headers)


def open_signer(folder: Path, issuer: str) -> Signer:
    """Return the signer whose key is `assertion.key` (PEM), made at the first start; raises StartError.

    `assertion.previous.key`, if it is there, is published, too.
    """
    previous = folder / "assertion.previous.key"
    before = open_key(previous, create=False) if previous.exists() else None
    return Signer(issuer, open_key(folder / "assertion.key"), before)
