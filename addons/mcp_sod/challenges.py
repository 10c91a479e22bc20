"""What a caller without a good token is told, so that its client can get one (RFC 6750, 9449, 9728)."""

from collections.abc import Iterator

from mcp_sod.errors import InsufficientScope, ProxyUnauthenticated, Refusal, Unauthenticated
from mcp_sod.policy.policy import Policy

DPOP_ALGORITHMS = ("ES256", "ES384", "ES512", "RS256", "PS256", "EdDSA")


def challenges(policy: Policy, refusal: Refusal, metadata: str | None) -> dict[str, str]:
    """Return the headers of a refusal; none for one that has nothing to do with tokens.

    `metadata`: where the caller finds out who gives tokens (RFC 9728, section 5.1).
    """
    realm = f'realm="{policy.gateway.name}"'
    match refusal:
        case ProxyUnauthenticated():
            return {"proxy-authenticate": f"Basic {realm}, Bearer {realm}"}
        case Unauthenticated():
            facts = list(_facts(refusal.error, refusal.sentence if refusal.error else "", _scope(policy), metadata))
            nonce = {"dpop-nonce": refusal.nonce} if refusal.nonce else {}
            return {"www-authenticate": _schemes(policy, refusal, [realm, *facts]), **nonce}
        case InsufficientScope():
            facts = list(_facts("insufficient_scope", refusal.sentence, refusal.scope, metadata))
            only_dpop = {issuer.proof for issuer in policy.document.identity} == {"dpop"}
            return {"www-authenticate": f"{'DPoP' if only_dpop else 'Bearer'} {', '.join([realm, *facts])}"}
    return {}


def _schemes(policy: Policy, refusal: Unauthenticated, facts: list[str]) -> str:
    """Return a challenge for each scheme that some issuer's tokens may come with (RFC 9449, section 7.1)."""
    kinds = {issuer.proof for issuer in policy.document.identity}
    bearer = [f"Bearer {', '.join(facts)}"] if kinds != {"dpop"} else []
    proof = refusal.error.endswith(("dpop_proof", "dpop_nonce"))
    algorithms = 'algs="' + " ".join(DPOP_ALGORITHMS) + '"'
    dpop = [f"DPoP {', '.join([*facts, algorithms])}"] if "dpop" in kinds or proof else []
    return ", ".join(dpop if proof else [*dpop, *bearer])


def _facts(error: str, sentence: str, scope: str, metadata: str | None) -> Iterator[str]:
    known = {"error": error, "error_description": sentence, "scope": scope, "resource_metadata": metadata}
    for name, value in known.items():
        if value:
            yield f'{name}="{_quotable(value)}"'


def _quotable(value: str) -> str:
    return "".join(char for char in value if " " <= char <= "~" and char not in '"\\')


def _scope(policy: Policy) -> str:
    """Return what every issuer's tokens need; where issuers differ, a client asks as its own issuer says."""
    wanted = {tuple(issuer.scopes) for issuer in policy.document.identity}
    return " ".join(next(iter(wanted))) if len(wanted) == 1 else ""
