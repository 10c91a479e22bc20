"""What a signed assertion says, and whether it is meant for this gateway, now (SAML 2.0 profiles, section 4.1.4)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from lxml import etree

from mcp_sod.errors import Unauthenticated
from mcp_sod.identity.signed_xml import SAML, SAMLP, Signed
from mcp_sod.policy.issuers import Saml

OLDEST = 3600.0  # seconds since an assertion was made: for so long its id has to be remembered
_SUCCESS = "urn:oasis:names:tc:SAML:2.0:status:Success"
_BEARER = "urn:oasis:names:tc:SAML:2.0:cm:bearer"
_TRANSIENT = "urn:oasis:names:tc:SAML:2.0:nameid-format:transient"
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z")
_CONDITIONS = {f"{SAML}AudienceRestriction", f"{SAML}OneTimeUse", f"{SAML}ProxyRestriction"}


@dataclass(frozen=True, slots=True)
class Assertion:
    """Who signed on, by the provider's word; times in seconds since the epoch.

    `until`: from then on it is refused for its age; `session_until`: when the provider's session with the person ends.
    """

    id: str
    subject: str
    groups: tuple[str, ...]
    person: tuple[str, ...]
    until: float
    session_until: float | None


def succeeded(response: etree._Element) -> None:
    """Raise Unauthenticated where the provider says that nobody signed on."""
    status = response.find(f"{SAMLP}Status/{SAMLP}StatusCode")
    if status is None or status.get("Value") != _SUCCESS:
        raise Unauthenticated("The identity provider did not sign this person on.", hint="Sign on again.")


def read(signed: Signed, saml: Saml, now: float, asked: str | None) -> Assertion:
    """Return what the assertion says; raises Unauthenticated where it is not for this gateway, this request, or now.

    `asked`: the id of the request that this browser made.
    """
    _envelope(signed.response, saml, asked)
    assertion = signed.assertion
    made = _made(assertion, saml, now)
    _conditions(_only(assertion, "Conditions"), saml, now)
    subject = _only(assertion, "Subject")
    confirmed = _confirmed(subject, saml, now, asked)
    name = _only(subject, "NameID")
    person = tuple(_person(assertion, saml, _text(name)))
    if name.get("Format") == _TRANSIENT and not set(person) - {_text(name)}:
        raise Unauthenticated("The assertion's NameID is transient, and no attribute says who the person is.",
                              hint="Let the provider send a persistent NameID or such an attribute.")  # fmt: skip
    return Assertion(
        id=assertion.get("ID"),
        subject=_text(name),
        groups=tuple(_values(assertion, saml.claims.groups)),
        person=person,
        until=min(confirmed, made + OLDEST) + saml.leeway,
        session_until=_session(assertion, now),
    )


def _envelope(response: etree._Element, saml: Saml, asked: str | None) -> None:
    if response.get("Version") != "2.0":
        raise Unauthenticated("The response is not one of SAML 2.0.")
    if response.get("Destination") != saml.acs:
        raise Unauthenticated("The SAML response is meant for another destination.")
    for issuer in response.findall(f"{SAML}Issuer"):
        _from(issuer, saml)
    _answers(response.get("InResponseTo"), saml, asked)


def _made(assertion: etree._Element, saml: Saml, now: float) -> float:
    """Return when the assertion was made: by this provider, not long ago."""
    if assertion.get("Version") != "2.0":
        raise Unauthenticated("The assertion is not one of SAML 2.0.")
    if not assertion.get("ID"):
        raise Unauthenticated("The assertion has no ID.")
    _from(_only(assertion, "Issuer"), saml)
    made = _instant(assertion, "IssueInstant")
    if made is None or not now - OLDEST - saml.leeway < made <= now + saml.leeway:
        raise Unauthenticated("The assertion was not made just now.")
    return made


def _from(issuer: etree._Element, saml: Saml) -> None:
    if _text(issuer) != saml.entity:
        raise Unauthenticated("The assertion comes from another identity provider.")


def _answers(request: str | None, saml: Saml, asked: str | None) -> None:
    """Take an answer to this browser's own request; one that answers no request, where the policy allows it."""
    if request is None and saml.unsolicited == "refuse":
        raise Unauthenticated("The SAML response answers no request.", hint="Begin at the gateway's console.")
    if request is not None and request != asked:
        raise Unauthenticated("The SAML response answers a request that this browser did not make, or not just now.",
                              hint="Begin at the gateway's console, and sign on in the same browser.")  # fmt: skip


def _conditions(conditions: etree._Element, saml: Saml, now: float) -> None:
    _valid_now(conditions, saml, now)
    if not {child.tag for child in conditions} <= _CONDITIONS:
        raise Unauthenticated("The assertion has a condition that is not understood here.")
    restrictions = conditions.findall(f"{SAML}AudienceRestriction")
    audiences = [[_text(one) for one in part.findall(f"{SAML}Audience")] for part in restrictions]
    if not audiences or not all(saml.audience in named for named in audiences):
        raise Unauthenticated("The assertion is meant for another audience.")


def _valid_now(element: etree._Element, saml: Saml, now: float) -> float | None:
    """Return when the element's time ends, if it says so; raises Unauthenticated outside that time."""
    begins, ends = _instant(element, "NotBefore"), _instant(element, "NotOnOrAfter")
    if begins is not None and now < begins - saml.leeway:
        raise Unauthenticated("The assertion is not valid yet.")
    if ends is not None and now >= ends + saml.leeway:
        raise Unauthenticated("The assertion has expired.")
    return ends


def _confirmed(subject: etree._Element, saml: Saml, now: float, asked: str | None) -> float:
    """Return until when the bearer of the assertion counts as its subject (SAML 2.0 profiles, section 4.1.4.2)."""
    confirmation = _only(subject, "SubjectConfirmation")
    if confirmation.get("Method") != _BEARER:
        raise Unauthenticated("The assertion is not one for its bearer.")
    facts = _only(confirmation, "SubjectConfirmationData")
    if facts.get("Recipient") != saml.acs:
        raise Unauthenticated("The assertion is meant for another recipient.")
    if facts.get("NotBefore") is not None:
        raise Unauthenticated("The assertion's confirmation must not say NotBefore.")
    ends = _valid_now(facts, saml, now)
    if ends is None:
        raise Unauthenticated("The assertion's confirmation does not say when it ends.")
    _answers(facts.get("InResponseTo"), saml, asked)
    return ends


def _session(assertion: etree._Element, now: float) -> float | None:
    statements = assertion.findall(f"{SAML}AuthnStatement")
    if not statements:
        raise Unauthenticated("The assertion does not say that the person signed on.")
    ends = [end for one in statements if (end := _instant(one, "SessionNotOnOrAfter")) is not None]
    if ends and min(ends) <= now:
        raise Unauthenticated("The person's session at the identity provider is over.", hint="Sign on again.")
    return min(ends) if ends else None


def _person(assertion: etree._Element, saml: Saml, subject: str) -> Iterator[str]:
    for name in saml.claims.person:
        yield from [subject] if name == "NameID" else _values(assertion, name)


def _values(assertion: etree._Element, name: str) -> Iterator[str]:
    """Yield the texts of every attribute of that name."""
    for attribute in assertion.findall(f"{SAML}AttributeStatement/{SAML}Attribute"):
        if attribute.get("Name") == name:
            for value in attribute.findall(f"{SAML}AttributeValue"):
                if len(value):
                    raise Unauthenticated("An attribute of the assertion is not a text.")
                if value.text:
                    yield value.text


def _only(parent: etree._Element, name: str) -> etree._Element:
    found = parent.findall(SAML + name)
    if len(found) != 1:
        raise Unauthenticated(f"The assertion must have exactly one {name}.")
    return found[0]


def _text(element: etree._Element) -> str:
    if len(element) or not element.text:
        raise Unauthenticated(f"The assertion's {etree.QName(element).localname} is not a text.")
    return str(element.text)


def _instant(element: etree._Element, name: str) -> float | None:
    """Return a time in seconds since the epoch; SAML has them in UTC (SAML 2.0 core, section 1.3.3)."""
    written = element.get(name)
    if written is None:
        return None
    try:
        return datetime.fromisoformat(written if _INSTANT.fullmatch(written) else "").timestamp()
    except ValueError:
        raise Unauthenticated(f"The assertion's {name} is not a time in UTC.") from None
