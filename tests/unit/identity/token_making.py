"""Tokens as the truth tables of tests/cases/identity describe them: a good one with one change."""

import json
import time
from collections.abc import Mapping
from typing import Any, Literal

import jwt
from pydantic import Field

from tests.unit.cases import Case, Part
from tests.world.flaws import Flaw
from tests.world.issuer import AUDIENCE, Issuer
from tests.world.keys import Algorithm


class Gives(Part):
    """What a principal must be; what is left out may be anything."""

    subject: str
    kind: Literal["human", "machine"] | None = None
    groups: list[str] | None = None
    person: list[str] | None = None
    actors: list[str] | None = None
    client: str | None = None


class Token(Case):
    """A good token with one change, and the principal it gives or the sentence that refuses it."""

    flaw: Flaw | None = None
    algorithm: Algorithm = "ES256"
    header: Mapping[str, Any] = Field(default_factory=dict)
    claims: Mapping[str, Any] = Field(default_factory=dict)  # null takes a claim away
    later: Mapping[str, int] = Field(default_factory=dict)  # times, in seconds from now
    lifetime: int = 300
    chain: int = 0  # this many actors, one behind the other
    paths: Mapping[str, Any] = Field(default_factory=dict)
    machine: Literal["none"] | None = None
    algorithms: list[str] | None = None
    sent: list[str] = Field(default=["Bearer {}"])
    gives: Gives | None = None
    says: str | None = None
    wire: str | None = None  # what the gateway says of the request's bytes, before it looks for a token


def token_of(case: Token, issuer: Issuer, signer: Issuer | None = None) -> str:
    """The token that a row speaks of; `signer`: whose key signs it, if not its issuer's."""
    now = int(time.time())
    claims: dict[str, Any] = {"email": "alice@example.com", **case.claims}
    claims |= {name: now + seconds for name, seconds in case.later.items()}
    for _ in range(case.chain):
        claims["act"] = {"sub": "a", **({"act": claims["act"]} if "act" in claims else {})}
    if case.flaw:
        return issuer.token("alice", flaw=case.flaw)
    payload = {
        "iss": issuer.url,
        "sub": "alice",
        "aud": AUDIENCE,
        "iat": now,
        "exp": now + case.lifetime,
        "groups": ["mcp-users"],
    }
    payload = {name: value for name, value in {**payload, **claims}.items() if value is not None}
    key = (signer or issuer).key(case.algorithm)
    header = {"kid": key.kid, "alg": key.algorithm, "typ": "JWT", **case.header}
    return encoded(header, payload, key.private, key.algorithm)


def encoded(header: Mapping[str, Any], payload: Mapping[str, Any], private: Any, algorithm: str) -> str:
    """A compact JWS over any header whatever: PyJWT would refuse to write some of these."""
    parts = ".".join(jwt.utils.base64url_encode(json.dumps(part).encode()).decode() for part in (header, payload))
    signer = jwt.get_algorithm_by_name(algorithm)
    return f"{parts}.{jwt.utils.base64url_encode(signer.sign(parts.encode(), private)).decode()}"
