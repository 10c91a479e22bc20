"""The gateway's own signing keys (ES256), and how keys are named (RFC 7638)."""

import base64
import hashlib
import json
import os
import secrets
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm

from mcp_sod.errors import StartError

ALGORITHM = "ES256"  # signing takes some 40 µs; Ed25519 takes as long, and fewer libraries read it
_REQUIRED = {"EC": ("crv", "x", "y"), "RSA": ("e", "n"), "OKP": ("crv", "x")}  # RFC 7638, section 3.2


def thumbprint(digest: bytes) -> str:
    """Return the thumbprint of a key or certificate as tokens name it: its SHA-256 in base64url, unpadded."""
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def jwk_thumbprint(jwk: Mapping[str, object]) -> str:
    """Return the thumbprint of a public key (RFC 7638); raises KeyError for one of an unknown kind."""
    members = {name: jwk[name] for name in (*_REQUIRED[str(jwk["kty"])], "kty")}
    return thumbprint(hashlib.sha256(json.dumps(members, sort_keys=True, separators=(",", ":")).encode()).digest())


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with its public half as a JWK, whose id is its thumbprint."""

    private: EllipticCurvePrivateKey
    jwk: dict[str, str]

    @classmethod
    def of(cls, private: EllipticCurvePrivateKey) -> Self:
        """Return the key with what is published of it."""
        public = ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        members = {name: public[name] for name in ("crv", "kty", "x", "y")}
        return cls(private, {**members, "kid": jwk_thumbprint(members), "use": "sig", "alg": ALGORITHM})


def open_key(file: Path, *, create: bool = True) -> SigningKey:
    """Return the key in a file (PEM, PKCS 8), made first if it is missing and `create` is true; raises StartError."""
    try:
        if create and not file.exists():
            _make(file)
        return _load(file)
    except OSError as error:
        raise StartError(f"The key {error.filename or file} cannot be read or made: {error.strerror}.",
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
