"""From a verified token's claims to a Principal."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from mcp_sod.errors import Unauthenticated
from mcp_sod.exchange import Principal
from mcp_sod.policy.issuers import Conditions, Issuer
from mcp_sod.policy.patterns import plain_form

type Claims = Mapping[str, object]

MAX_ACTORS = 8
_OTHER_TYPES = frozenset({"id", "refresh", "offline", "logout"})  # as Keycloak says it, in a claim


def principal(claims: Claims, issuer: Issuer, fingerprint: str, kid: str | None = None) -> Principal:
    """Return who the claims speak of; raises Unauthenticated where a claim has an unusable form.

    `kid`: the id of the key that the token was signed with.
    """
    subject = claims.get("sub")
    if not isinstance(subject, str) or not subject:
        raise Unauthenticated("The token names no subject.")
    if str(claims.get("typ")).lower() in _OTHER_TYPES:
        raise Unauthenticated("The token is not an access token (typ).")
    _meets_conditions(claims, issuer)
    client = next((found for name in (issuer.claims.client, "client_id") for found in _texts(claims, name)), None)
    machine, person = _is_machine(claims, issuer), frozenset(_person(claims, issuer))
    if not machine:
        _says_who_it_is(claims, issuer)
    behind = [*_acting(claims, issuer), *_owners(issuer, subject, client), *_unverified(claims, issuer)]
    found = Principal(
        issuer=issuer.issuer,
        subject=subject,
        person=person,
        kind="machine" if machine else "human",
        groups=frozenset(_groups(claims, issuer)),
        client=client,
        actors=frozenset(key for who in behind for key in who.keys),
        expires=_expiry(claims) + issuer.leeway,
        fingerprint=fingerprint,
        delegated=claims.get("act") is not None,
    )
    return replace(found, marks=frozenset(_marks(found, behind, claims, kid)))


def _says_who_it_is(claims: Claims, issuer: Issuer) -> None:
    """Refuse a person's token that leaves out what tells the person: clients choose what is in it, by scopes."""
    lacking = [name for name in issuer.claims.required_person_paths if not _texts(claims, name)]
    if lacking:
        raise Unauthenticated(
            f"The token does not say which person it is for: it lacks {', '.join(lacking)}.",
            hint="Ask for a token with it; or name what all tokens have in claims.person of the policy.",
        )


@dataclass(frozen=True, slots=True)
class Behind:
    """Someone behind a call, by a name that is an account of `issuer` or a person key; without issuer, a key alone."""

    name: str
    issuer: str | None = None

    @property
    def keys(self) -> Iterator[str]:
        """The keys by which this one is compared with others."""
        yield person_key(self.name)
        if self.issuer is not None:
            yield f"{self.issuer}#{self.name}"
            yield f"{self.issuer}#{person_key(self.name)}".casefold()


def _marks(found: Principal, behind: list[Behind], claims: Claims, kid: str | None) -> Iterator[tuple[str, str]]:
    """Yield everything by which a principal, or who stands behind it, could be revoked."""
    for key in found.person:
        yield "person", key
    for who in (Behind(found.subject, found.issuer), *behind):
        if who.issuer is not None:
            yield "subject", person_key(who.name)
            yield "subject", person_key(f"{who.issuer}#{who.name}")
    for who in behind:
        yield "person", person_key(who.name)
    named = {"client": found.client, "token": claims.get("jti"), "key": kid}
    yield from ((kind, value) for kind, value in named.items() if isinstance(value, str) and value)
    yield "token", found.fingerprint
    yield from (("key", value) for value in binding(claims).values())


def binding(claims: Claims) -> dict[str, str]:
    """Return what the token is bound to, by the name of the way (RFC 7800, section 3): `jkt`, `x5t#S256`.

    Raises Unauthenticated for a binding that is not understood, since it could not be checked.
    """
    found = claims.get("cnf")
    if found is None:
        return {}
    if not isinstance(found, Mapping) or not found or not found.keys() <= {"jkt", "x5t#S256"}:
        raise Unauthenticated("The token is bound to its sender in a way that is not understood here (cnf).")
    if not all(isinstance(value, str) and value for value in found.values()):
        raise Unauthenticated("The token is bound to its sender in a way that is not understood here (cnf).")
    return dict(found)


def scopes(claims: Claims) -> frozenset[str]:
    """Return the token's scopes (RFC 8693, section 4.2; `scp` is Entra's and Okta's)."""
    return frozenset(word for name in ("scope", "scp") for text in _texts(claims, name) for word in text.split(" "))


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


def meets(claims: Claims, conditions: Conditions) -> str | None:
    """Return the first claim that is not as the conditions demand, or None; a claim that is a list must hold one."""
    for path, wanted in conditions.items():
        found = lookup(claims, path)
        said = [_said(value) for value in (found if isinstance(found, list) else [found])]
        patterns = [wanted] if isinstance(wanted, str) else wanted
        if not any(text is not None and _fits(pattern, text) for pattern in patterns for text in said):
            return path
    return None


def _meets_conditions(claims: Claims, issuer: Issuer) -> None:
    failing = meets(claims, issuer.require)
    if failing is not None:
        raise Unauthenticated(f"The token's claim {failing} is not what the policy demands of this issuer's tokens.")


def _said(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, str | int) else None


def _fits(pattern: str, text: str) -> bool:
    """Say whether a text is as written; `*` stands for any text, and nothing else for anything but itself."""
    return re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), text, re.DOTALL) is not None


def _groups(claims: Claims, issuer: Issuer) -> Iterator[str]:
    _no_overage(claims, issuer)
    for path in issuer.claims.group_paths:
        yield from _texts(claims, path)
    for grant in issuer.grants:
        if meets(claims, grant.when) is None:
            yield from grant.groups


def _no_overage(claims: Claims, issuer: Issuer) -> None:
    """Refuse a token that says that its groups are elsewhere: without them, separation would see too few roles.

    Source: Microsoft Entra, "Group overage claim"; OpenID Connect Core 1.0, section 5.6.2 (distributed claims).
    """
    named = claims.get("_claim_names")
    elsewhere = set(named) if isinstance(named, Mapping) else set()
    if claims.get("hasgroups") in (True, "true"):
        elsewhere.add("groups")
    if elsewhere & {path.partition(".")[0] for path in issuer.claims.group_paths}:
        raise Unauthenticated(
            "The token leaves out its groups, of which there are too many (overage).",
            hint="Have the provider put in only the groups assigned to this application, or application roles.",
        )


def _texts(claims: Claims, path: str) -> list[str]:
    found = lookup(claims, path)
    values = found if isinstance(found, list) else [found]
    if found is None:
        return []
    texts = [value for value in values if isinstance(value, str) and value]
    if len(texts) != len(values):
        raise Unauthenticated(f"The token's claim {path} is not a text or a list of texts.")
    return texts


def person_key(value: str) -> str:
    """Return a form in which two spellings of one address or number are equal, invisible characters or not."""
    return plain_form(value).strip().casefold()


def _person(claims: Claims, issuer: Issuer) -> Iterator[str]:
    """Yield the person's keys. An e-mail address that its provider did not verify tells nobody from anybody."""
    for name in issuer.claims.person_paths:
        if not (name == "email" and _is_unverified(claims)):
            yield from filter(None, map(person_key, _texts(claims, name)))


def _unverified(claims: Claims, issuer: Issuer) -> Iterator[Behind]:
    """Yield what may be the person's key: too little to vote with, enough to keep its owner from voting."""
    if "email" in issuer.claims.person_paths and _is_unverified(claims):
        yield from map(Behind, _texts(claims, "email"))


def _is_unverified(claims: Claims) -> bool:
    return claims.get("email_verified", True) not in (True, "true")


def _is_machine(claims: Claims, issuer: Issuer) -> bool:
    rule = issuer.machine
    if isinstance(rule, str):
        return rule == "all"
    found = lookup(claims, rule.claim)
    return rule.equals in (found if isinstance(found, list) else [found])


def _owners(issuer: Issuer, *names: str | None) -> Iterator[Behind]:
    """Yield whose the client or the subject is, as the policy knows it."""
    for name in names:
        yield from map(Behind, issuer.owners.get(name or "", []))


def _acting(claims: Claims, issuer: Issuer) -> Iterator[Behind]:
    """Yield everyone who acts: those in the named claims, and the whole chain of `act` (RFC 8693, section 4.1)."""
    for name in issuer.claims.actors:
        yield from (Behind(value, issuer.issuer) for value in _texts(claims, name))
    act, depth = claims.get("act"), 0
    while isinstance(act, Mapping):
        if depth == MAX_ACTORS:
            raise Unauthenticated(f"The token's act claim names more than {MAX_ACTORS} actors.")
        home = act.get("iss", issuer.issuer)
        if not isinstance(home, str):
            raise Unauthenticated("The token's act claim names an issuer that is not a text.")
        yield from (Behind(value, home) for value in _texts(act, "sub"))
        yield from (Behind(value) for name in issuer.claims.person_paths for value in _texts(act, name))
        act, depth = act.get("act"), depth + 1
    if act is not None:
        raise Unauthenticated("The token's act claim is not an object.")


def _expiry(claims: Claims) -> float:
    expires = claims.get("exp")
    if isinstance(expires, bool) or not isinstance(expires, int | float):
        raise Unauthenticated("The token has no expiry.")
    return float(expires)
