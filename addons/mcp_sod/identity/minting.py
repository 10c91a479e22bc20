"""The gateway's own tokens, for people who signed on where nobody issues tokens."""

import secrets
from dataclasses import dataclass
from pathlib import Path

import jwt

from mcp_sod.errors import Unauthenticated
from mcp_sod.identity.assertions import Assertion
from mcp_sod.identity.presented import MAX_TOKEN
from mcp_sod.policy.issuers import Issuer, Saml
from mcp_sod.signing_key import ALGORITHM, open_key


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
        key = open_key(key_file)
        self._key, self.jwk, self.kid = key.private, key.jwk, key.jwk["kid"]
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
        token = jwt.encode(claims, self._key, algorithm=ALGORITHM, headers={"typ": "at+jwt", "kid": self.kid})
        if len(token) > MAX_TOKEN:
            raise Unauthenticated("The assertion says more than a token can hold.",
                                  hint="Let the identity provider send only the groups that matter here.")  # fmt: skip
        return Minted(token, name, expires)


def issuer_of(saml: Saml) -> Issuer:
    """Return as whose the tokens are verified that a SAML provider's assertions were changed into.

    Its keys are the mint's, wherever `keys` says; its clock is the gateway's, so that a token ends when it says.
    """
    claims = {"groups": "groups", "person": ["person"], "actors": ["act.sub"]}
    facts = {"audience": [saml.audience], "keys": {"file": "sign-on.key"}, "algorithms": [ALGORITHM], "claims": claims}
    return Issuer.model_validate({"issuer": saml.entity, **facts, "machine": "none", "proof": "bearer", "leeway": "1s"})
