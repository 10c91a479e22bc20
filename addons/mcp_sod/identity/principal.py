"""From a verified token's claims to a Principal."""

from collections.abc import Iterator, Mapping

from mcp_sod.errors import Unauthenticated
from mcp_sod.exchange import Principal
from mcp_sod.policy.patterns import plain_form
from mcp_sod.policy.people import Issuer

type Claims = Mapping[str, object]

MAX_ACTORS = 8


def principal(claims: Claims, issuer: Issuer, fingerprint: str) -> Principal:
    """Return who the claims speak of; raises Unauthenticated where a claim has an unusable form."""
    names = issuer.claims
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise Unauthenticated("The token names no subject.")
    client = next((found for name in (names.client, "client_id") for found in _texts(claims, name)), None)
    return Principal(
        issuer=issuer.issuer,
        subject=subject,
        person=frozenset(_person(claims, issuer)),
        kind="machine" if _is_machine(claims, issuer) else "human",
        groups=frozenset(_texts(claims, names.groups)),
        client=client,
        actors=frozenset((*_actors(claims, issuer), *_unverified(claims, issuer))),
        expires=_expiry(claims) + issuer.leeway,
        fingerprint=fingerprint,
    )


def lookup(claims: Claims, path: str) -> object:
    """Return the claim at a dotted path, or None; a claim whose name holds dots is found by its whole name first."""
    if path in claims:
        return claims[path]
    found: object = claims
    for part in path.split("."):
        if not isinstance(found, Mapping) or part not in found:
            return None
        found = found[part]
    return found


def _texts(claims: Claims, path: str) -> list[str]:
    found = lookup(claims, path)
    values = found if isinstance(found, list) else [found]
    if found is None:
        return []
    texts = [value for value in values if isinstance(value, str) and value]
    if len(texts) != len(values):
        raise Unauthenticated(f"The token's claim {path} is not a text or a list of texts.")
    return texts


def _key(value: str) -> str:
    """Return a form in which two spellings of one address or number are equal, invisible characters or not."""
    return plain_form(value).strip().casefold()


def _person(claims: Claims, issuer: Issuer) -> Iterator[str]:
    """Yield the person's keys. An e-mail address that its provider did not verify tells nobody from anybody."""
    for name in issuer.claims.person:
        if not (name == "email" and _is_unverified(claims)):
            yield from map(_key, _texts(claims, name))


def _unverified(claims: Claims, issuer: Issuer) -> Iterator[str]:
    """Yield what may be the person's key: too little to vote with, enough to keep its owner from voting."""
    if "email" in issuer.claims.person and _is_unverified(claims):
        yield from map(_key, _texts(claims, "email"))


def _is_unverified(claims: Claims) -> bool:
    return claims.get("email_verified", True) not in (True, "true")


def _is_machine(claims: Claims, issuer: Issuer) -> bool:
    rule = issuer.machine
    if rule == "none":
        return False
    found = lookup(claims, rule.claim)
    return rule.equals in (found if isinstance(found, list) else [found])


def _actors(claims: Claims, issuer: Issuer) -> Iterator[str]:
    """Yield the keys of everyone who acts: the named claims, and the whole chain of `act` (RFC 8693, section 4.1)."""
    found = [value for name in issuer.claims.actors for value in _texts(claims, name)]
    act, depth = claims.get("act"), 0
    while isinstance(act, Mapping):
        if depth == MAX_ACTORS:
            raise Unauthenticated(f"The token's act claim names more than {MAX_ACTORS} actors.")
        found += [value for name in ("sub", *issuer.claims.person) for value in _texts(act, name)]
        act, depth = act.get("act"), depth + 1
    for value in found:
        yield _key(value)
        yield f"{issuer.issuer}#{value}"


def _expiry(claims: Claims) -> float:
    expires = claims.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise Unauthenticated("The token has no expiry.")
    return float(expires)
