"""The assertion: what the gateway tells an upstream of a call and who makes it (a JWT, RFC 7519)."""

import hashlib
from dataclasses import dataclass

from mcp_sod.exchange import Exchange
from mcp_sod.policy.upstreams import Assertion
from mcp_sod.signing_key import thumbprint


@dataclass(frozen=True, slots=True)
class Sent:
    """A request as the upstream gets it; `url` is whole, with the query."""

    method: str
    url: str
    body: bytes


def claims(exchange: Exchange, settings: Assertion, sent: Sent, now: float) -> dict[str, object]:
    """Return the claims, all but the issuer: who calls, and (`htm`, `htu`, `bod`) to which request alone they belong.

    `htu` holds the query, other than in RFC 9449; `bod` is the base64url SHA-256 of the body.
    """
    principal, issued = exchange.principal, int(now)
    assert principal is not None
    optional = {"client": principal.client, "person": sorted(principal.person), "actors": sorted(principal.actors)}
    return {
        "aud": settings.audience,
        "sub": principal.subject,
        "sub_iss": principal.issuer,
        "kind": principal.kind,
        "roles": sorted(exchange.roles or ()),
        **{name: value for name, value in optional.items() if value},
        "iat": issued,
        "exp": issued + int(settings.lifetime),
        "jti": exchange.reference,
        "htm": sent.method,
        "htu": sent.url,
        "bod": thumbprint(hashlib.sha256(sent.body).digest()),
    }
