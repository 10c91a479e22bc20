"""The gateway's own tokens, for people who signed on where nobody issues tokens."""

import hashlib
import os
import secrets
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from jwt.algorithms import ECAlgorithm

from mcp_sod.errors import StartError, Unauthenticated
from mcp_sod.exchange import thumbprint
from mcp_sod.identity.assertions import Assertion
from mcp_sod.identity.presented import MAX_TOKEN
from mcp_sod.policy.issuers import Claims, Issuer, Keys, Saml


@dataclass(frozen=True, slots=True)
class Minted:
    """A token of the gateway's; `expires` in seconds since the epoch."""

    token: str
    id: str
    expires: int


class Mint:
    """Signs tokens (ES256) with a key that never leaves the gateway."""

    def __init__(self, key_file: Path) -> None:
        """Read the key (PEM, PKCS 8), made first if it is missing; raises StartError."""
        self._key = _key(key_file)
        public: dict[str, Any] = ECAlgorithm.to_jwk(self._key.public_key(), as_dict=True)
        self.kid = _thumbprint(public)
        self.jwk = {**public, "kid": self.kid, "use": "sig", "alg": "ES256"}
        self.public = jwt.PyJWK(self.jwk)

    def token(self, assertion: Assertion, saml: Saml, now: float) -> Minted:
        """Return a token for whom the assertion names, which outlives neither `lifetime` nor the provider's session."""
        ends = min(now + saml.lifetime, assertion.session_until or float("inf"))
        name, expires = secrets.token_urlsafe(16), int(ends)
        claims = {
            "iss": saml.entity,
            "sub": assertion.subject,
            "aud": saml.audience,
            "iat": int(now),
            "exp": expires,
            "jti": name,
            "groups": list(assertion.groups),
            "person": list(assertion.person),
        }
        token = jwt.encode(claims, self._key, algorithm="ES256", headers={"typ": "at+jwt", "kid": self.kid})
        if len(token) > MAX_TOKEN:
            raise Unauthenticated("The assertion says more than a token can hold.",
                                  hint="Let the identity provider send only the groups that matter here.")  # fmt: skip
        return Minted(token, name, expires)


def issuer_of(saml: Saml) -> Issuer:
    """Return as whose the tokens are verified that a SAML provider's assertions were changed into.

    Its keys are the mint's, wherever `keys` says; its clock is the gateway's, so that a token ends when it says.
    """
    return Issuer(
        issuer=saml.entity,
        audience=[saml.audience],
        keys=Keys(file="sign-on.key"),
        algorithms=["ES256"],
        claims=Claims(groups="groups", person=["person"], actors=["act.sub"]),
        machine="none",
        proof="bearer",
        leeway=1,
    )


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    try:
        _make(file)
        if file.stat().st_mode & stat.S_IRWXO:
            raise StartError(f"The key file {file} is open to every user.", hint=f"Run: chmod 600 {file}")
        key = load_pem_private_key(file.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
        raise StartError(f"The key file {file} is damaged.", hint="Restore it, or remove it to have a new one made.")
    return key


def _make(file: Path) -> None:
    """Make the key, unless there is one; it appears whole, under its name, or not at all."""
    if file.exists():
        return
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    fresh = file.with_name(f"{file.name}.{secrets.token_hex(4)}")
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as made:  # noqa: PTH123 (mode)
        made.write(pem)
        made.flush()
        os.fsync(made.fileno())
    fresh.rename(file)


def _thumbprint(jwk: dict[str, Any]) -> str:
    """Return the key's thumbprint (RFC 7638, section 3)."""
    needed = ",".join(f'"{name}":"{jwk[name]}"' for name in ("crv", "kty", "x", "y"))
    return thumbprint(hashlib.sha256(f"{{{needed}}}".encode()).digest())
