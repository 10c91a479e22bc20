"""The key that assertions are signed with, and what is published of it (RFC 7517, RFC 7638)."""

import hashlib
import json
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from jwt.algorithms import ECAlgorithm

from mcp_sod.errors import StartError
from mcp_sod.exchange import thumbprint

ALGORITHM = "ES256"  # signing takes some 40 µs; Ed25519 takes as long, and fewer libraries read it
TYPE = "sod-assertion+jwt"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its id, which is its thumbprint, and its public half as a JWK."""

    private: EllipticCurvePrivateKey
    jwk: dict[str, str]

    @classmethod
    def of(cls, private: EllipticCurvePrivateKey) -> Self:
        """Return the key with what is published of it."""
        public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        members = {name: public[name] for name in ("crv", "kty", "x", "y")}
        kid = thumbprint(hashlib.sha256(json.dumps(members, separators=(",", ":")).encode()).digest())
        return cls(private, {**members, "kid": kid, "use": "sig", "alg": ALGORITHM})


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
    current, previous = folder / "assertion.key", folder / "assertion.previous.key"
    try:
        if not current.exists():
            _make(current)
        return Signer(issuer, _load(current), _load(previous) if previous.exists() else None)
    except OSError as error:
        raise StartError(f"The key {error.filename or current} cannot be read or made: {error.strerror}.",
                         hint="Check the folder and its owner.") from None  # fmt: skip


def _make(file: Path) -> None:
    """Write a new key, whole or not at all."""
    pem = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    fresh = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:  # noqa: PTH123 (mode)
        made.write(pem)
        made.flush()
        os.fsync(made.fileno())
    fresh.replace(file)


def _load(file: Path) -> SigningKey:
    if file.stat().st_mode & stat.S_IRWXO:
        raise StartError(f"The key {file} is open to every user.", hint=f"Run: chmod 600 {file}")
    try:
        key = load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, EllipticCurvePrivateKey) or not isinstance(key.curve, SECP256R1):
        raise StartError(f"The key {file} is no P-256 key (PEM, PKCS 8).",
                         hint="Restore it from your backup, or remove it to have a new one made.")  # fmt: skip
    return SigningKey.of(key)
