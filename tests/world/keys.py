"""Fresh signing keys and their JWKs."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

Algorithm = Literal["ES256", "RS256", "EdDSA"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key with the id and algorithm it signs under."""

    kid: str
    algorithm: Algorithm
    private: PrivateKey

    @classmethod
    def fresh(cls, algorithm: Algorithm) -> "SigningKey":
        """A new key of this algorithm with a random id."""
        return cls(f"{algorithm.lower()}-{uuid4().hex[:8]}", algorithm, _generate(algorithm))

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half as a JWK."""
        return {**_public_jwk(self.private), "kid": self.kid, "use": "sig", "alg": self.algorithm}

    @property
    def public_pem(self) -> bytes:
        """The public half in PEM, which an attacker can read and use as an HMAC secret."""
        return self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def _generate(algorithm: Algorithm) -> PrivateKey:
    match algorithm:
        case "ES256":
            return ec.generate_private_key(ec.SECP256R1())
        case "RS256":
            return rsa.generate_private_key(public_exponent=65537, key_size=2048)
        case "EdDSA":
            return ed25519.Ed25519PrivateKey.generate()


def _public_jwk(private: PrivateKey) -> Mapping[str, Any]:
    match private:
        case ec.EllipticCurvePrivateKey():
            return ECAlgorithm.to_jwk(private.public_key(), as_dict=True)
        case rsa.RSAPrivateKey():
            return RSAAlgorithm.to_jwk(private.public_key(), as_dict=True)
        case _:
            return OKPAlgorithm.to_jwk(private.public_key(), as_dict=True)
