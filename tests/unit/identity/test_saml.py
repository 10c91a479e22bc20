"""SAML responses: which are believed, and that nothing is believed but what was signed."""

import base64
import copy
import gzip
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from lxml import etree
from mcp_sod.errors import PolicyError, Unauthenticated, Unavailable
from mcp_sod.identity.assertions import Assertion
from mcp_sod.identity.saml import assertion_of, certificates_are_there
from mcp_sod.identity.signed_xml import LARGEST
from pydantic import Field
from signxml.verifier import SignatureConfiguration, XMLVerifier

from tests.unit.cases import Case, Pair, rows
from tests.unit.identity.saml_making import (
    ACS,
    DS,
    EXCLUSIVE,
    NOW,
    POLICY,
    REQUEST,
    certificate,
    element,
    instant,
    policy,
    response,
    rsa_key,
    sent,
    signed,
)
from tests.unit.making import policy_of
from tests.world.saml_idp import certificate_for


class Row(Case):
    """A good response with one change, and what it gives or the sentence that refuses it."""

    sign: list[str] = Field(default=["Assertion"])
    key: str = "idp"
    algorithm: str = "rsa-sha256"
    digest: str = "sha256"
    c14n: str = EXCLUSIVE
    set: Mapping[str, str | None] = Field(default_factory=dict)  # element@attribute; null takes it away
    later: Mapping[str, int] = Field(default_factory=dict)  # times, in seconds from now
    text: Mapping[str, str] = Field(default_factory=dict)
    drop: list[str] = Field(default_factory=list)
    add: Mapping[str, str] = Field(default_factory=dict)
    spoil: str | None = None  # an element whose inner signature was made over something else
    before: str = ""  # stands before the document
    after: list[Pair[str]] = Field(default_factory=list)  # replaced once it is signed
    asked: str | None = REQUEST
    policy: Mapping[str, Any] = Field(default_factory=dict)
    gives: Mapping[str, Any] | None = None
    says: str | None = None


def made(row: Row) -> str:
    """The response that a row speaks of, as it is sent."""
    root = response()
    for place, value in {**row.set, **{place: instant(seconds) for place, seconds in row.later.items()}}.items():
        name, _, attribute = place.partition("@")
        element(root, name).attrib.pop(attribute, None)
        if value is not None:
            element(root, name).set(attribute, value)
    for name, words in row.text.items():
        _at(root, name).text = words
    for name, snippet in row.add.items():
        element(root, name).append(etree.fromstring(snippet))
    for name in row.drop:
        gone = _at(root, name)
        gone.getparent().remove(gone)
    how = {"key": row.key, "algorithm": row.algorithm, "digest": row.digest, "c14n": row.c14n}
    if row.spoil:
        root = signed(root, ["Assertion"], **how)
        element(root, "DigestValue").text = "AA=="
        return sent(signed(root, ["Response"], **how))
    text = base64.b64decode(sent(signed(root, row.sign, **how), *row.after))
    return base64.b64encode(row.before.encode() + text).decode()


def _at(root: etree._Element, name: str) -> etree._Element:
    if name == "Response/Issuer":
        return element(root, name)
    parent, _, child = name.rpartition("/")
    return element(root, parent).find(f"{{*}}{child}") if parent else element(root, child)


def believed(sent_response: str, row: Row | None = None, pem: bytes | None = None) -> Assertion:
    """What the response asserts."""
    pinned = pem or certificate("ec" if row and row.key == "ec" else "idp")
    changed = row.policy if row else {}
    asked = row.asked if row else REQUEST
    return assertion_of(sent_response, policy(**changed), pinned, now=NOW, asked=asked)


@pytest.mark.parametrize(("_policy", "row"), rows("saml", Row))
def test_a_response_is_believed_or_refused(_policy: object, row: Row) -> None:
    """A sound response gives who signed on; anything wrong with it is refused with a sentence that says what."""
    response_sent = made(row)
    assert (row.gives is None) != (row.says is None)
    if row.says is not None:
        with pytest.raises(Unauthenticated) as refused:
            believed(response_sent, row)
        assert row.says in refused.value.sentence
        return
    found = believed(response_sent, row)
    assert row.gives is not None
    wanted = {name: tuple(value) if isinstance(value, list) else value for name, value in row.gives.items()}
    assert {name: getattr(found, name) for name in wanted} == wanted


# Signature wrapping, as numbered by Somorovsky and others, "On Breaking SAML" (USENIX Security 2012)


def _evil(assertion: etree._Element) -> etree._Element:
    """An assertion of the attacker's: like the signed one, unsigned, for someone else."""
    made = copy.deepcopy(assertion)
    made.set("ID", "_evil")
    element(made, "NameID").text = "admin"
    for signature in made.findall(f"{DS}Signature"):
        made.remove(signature)
    return made


def _bare(signed_element: etree._Element) -> etree._Element:
    made = copy.deepcopy(signed_element)
    made.remove(made.find(f"{DS}Signature"))
    return made


def _evil_response(root: etree._Element) -> tuple[etree._Element, etree._Element]:
    """The attacker's response round the signature of the good one, and the good one without it."""
    original, evil = _bare(root), copy.deepcopy(root)
    evil.set("ID", "_evil-response")
    element(evil, "NameID").text = "admin"
    element(evil, "Assertion").set("ID", "_evil")
    return evil, original


def xsw1(root: etree._Element) -> etree._Element:
    """The signed response inside the signature, in an evil response."""
    evil, original = _evil_response(root)
    evil.find(f"{DS}Signature").append(original)
    return evil


def xsw2(root: etree._Element) -> etree._Element:
    """The signed response before the signature, in an evil response."""
    evil, original = _evil_response(root)
    evil.find(f"{DS}Signature").addprevious(original)
    return evil


def xsw3(root: etree._Element) -> etree._Element:
    """An evil assertion before the signed one."""
    original = element(root, "Assertion")
    original.addprevious(_evil(original))
    return root


def xsw4(root: etree._Element) -> etree._Element:
    """The signed assertion inside an evil one."""
    original = element(root, "Assertion")
    evil = _evil(original)
    root.replace(original, evil)
    evil.append(original)
    return root


def xsw5(root: etree._Element) -> etree._Element:
    """The signature in an evil assertion, the signed one without it at the end."""
    original = element(root, "Assertion")
    evil = _evil(original)
    evil.insert(1, copy.deepcopy(original.find(f"{DS}Signature")))
    root.replace(original, evil)
    root.append(_bare(original))
    return root


def xsw6(root: etree._Element) -> etree._Element:
    """The signed assertion inside the signature of an evil one."""
    original = element(root, "Assertion")
    evil = _evil(original)
    signature = copy.deepcopy(original.find(f"{DS}Signature"))
    evil.insert(1, signature)
    signature.append(_bare(original))
    root.replace(original, evil)
    return root


def xsw7(root: etree._Element) -> etree._Element:
    """An evil assertion among extensions."""
    original = element(root, "Assertion")
    extensions = etree.Element("{urn:oasis:names:tc:SAML:2.0:protocol}Extensions")
    extensions.append(_evil(original))
    original.addprevious(extensions)
    return root


def xsw8(root: etree._Element) -> etree._Element:
    """The signed assertion in an object of the signature of an evil one."""
    original = element(root, "Assertion")
    evil = _evil(original)
    signature = copy.deepcopy(original.find(f"{DS}Signature"))
    evil.insert(1, signature)
    etree.SubElement(signature, f"{DS}Object").append(_bare(original))
    root.replace(original, evil)
    return root


def moved(root: etree._Element) -> etree._Element:
    """The evil assertion where assertions are, the signed one in another namespace's element."""
    original = element(root, "Assertion")
    root.replace(original, _evil(original))
    etree.SubElement(root, "{urn:x}Box").append(original)
    return root


def renamed(root: etree._Element) -> etree._Element:
    """The attacker's words in an assertion of another namespace, which a careless reader finds first."""
    original = element(root, "Assertion")
    evil = _evil(original)
    evil.tag = "{urn:x}Assertion"
    original.addprevious(evil)
    return root


WRAPPED: Mapping[Callable[[etree._Element], etree._Element], str] = {
    xsw1: "Response", xsw2: "Response", xsw3: "Assertion", xsw4: "Assertion", xsw5: "Assertion", xsw6: "Assertion",
    xsw7: "Assertion", xsw8: "Assertion", moved: "Assertion", renamed: "Assertion",
}  # fmt: skip


@pytest.mark.parametrize(("wrap", "what"), WRAPPED.items(), ids=[wrap.__name__ for wrap in WRAPPED])
def test_a_wrapped_signature_vouches_for_nothing_else(
    wrap: Callable[[etree._Element], etree._Element], what: str
) -> None:
    """Wherever the signed element is put beside one of the attacker's, the response is refused; unwrapped, it holds.

    The signature of the wrapped one still holds by itself: only where it stands, and how often, gives it away.
    """
    good = signed(response(), [what])
    assert believed(sent(good)).subject == "alice"
    evil = wrap(good)
    assert b"admin" in etree.tostring(evil)
    loose = SignatureConfiguration(location=".//")
    pem = certificate().decode()
    XMLVerifier().verify(evil, x509_cert=pem, validate_schema=False, expect_config=loose, id_attribute="ID")
    with pytest.raises(Unauthenticated):
        believed(sent(evil))


def test_a_signature_vouches_for_what_bears_it() -> None:
    """One that the provider made over something else in the response, put where the assertion's own was, is refused."""
    root = response()
    element(root, "Status").set("ID", "_s")
    assert believed(sent(signed(copy.deepcopy(root)))).subject == "alice"
    made = signed(root, ["Status"])
    element(made, "Assertion").insert(1, element(made, "Signature"))
    with pytest.raises(Unauthenticated, match="does not cover the element that bears it"):
        believed(sent(made))


@pytest.mark.parametrize("place", ["Status", "Assertion", "Subject"])
def test_there_are_no_other_signatures(place: str) -> None:
    """A second signature, or one anywhere else, is refused, although the assertion's own holds."""
    good = signed(response())
    assert believed(sent(good)).subject == "alice"
    element(good, place).append(copy.deepcopy(element(good, "Signature")))
    with pytest.raises(Unauthenticated, match="stands where it does not belong"):
        believed(sent(good))


def test_what_is_read_is_what_was_signed() -> None:
    """Of an unsigned envelope nothing is taken: an attribute statement beside the signed assertion gives no group."""
    root = signed(response())
    extra = copy.deepcopy(element(root, "AttributeStatement"))
    element(extra, "AttributeValue").text = "admins"
    root.append(extra)
    assert believed(sent(root)).groups == ("mcp-users", "staff")


@pytest.mark.parametrize("extra", [0, 1])
def test_a_huge_response_is_refused(extra: int) -> None:
    """A response of 256 KiB is read, of one byte more is not."""
    good = base64.b64decode(sent(signed(response())))
    padded = good.replace(b"<samlp:Status>", b" " * (LARGEST - len(good) + extra) + b"<samlp:Status>")
    packed = base64.b64encode(padded).decode()
    if extra:
        with pytest.raises(Unauthenticated, match="too large"):
            believed(packed)
    else:
        assert believed(packed).subject == "alice"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda _text: "", "is not XML"),
        (lambda _text: "%%%", "not base64"),
        (lambda text: text[:-2], "not base64"),
        (lambda text: "é" + text, "not base64"),
        (lambda _text: "A" * LARGEST * 2, "too large"),
        (lambda _text: base64.b64encode(gzip.compress(b"<x/>")).decode(), "is not XML"),
        (lambda _text: base64.b64encode("<x/>".encode("utf-16")).decode(), "is not XML"),
        (lambda _text: base64.b64encode(b"<x/>").decode(), "not one SAML response"),
        (lambda _text: base64.b64encode(b"<a>" * 5000).decode(), "is not XML"),
        (lambda text: base64.b64encode(base64.b64decode(text) * 2).decode(), "is not XML"),
        (
            lambda _text: base64.b64encode(b"<a " + b" ".join(b'a%d=""' % at for at in range(65)) + b"/>").decode(),
            "too many attributes",
        ),
    ],
)
def test_what_is_no_response_is_refused(change: Callable[[str], str], says: str) -> None:
    """Rubbish, other encodings and other documents are refused with a sentence; folded base64 is read."""
    good = sent(signed(response()))
    assert believed("\r\n".join(good[at : at + 76] for at in range(0, len(good), 76))).subject == "alice"
    with pytest.raises(Unauthenticated, match=says):
        believed(change(good))


def test_a_certificate_counts_while_it_is_valid() -> None:
    """A certificate that is over, or not yet valid, vouches for nothing; beside a good one it does no harm."""
    good = sent(signed(response()))
    over, early = certificate(begins=-20, ends=-10), certificate(begins=10)
    for pem in (over, early):
        with pytest.raises(Unauthenticated, match="certificate is not valid at this time"):
            believed(good, pem=pem)
        assert believed(good, pem=pem + certificate()).subject == "alice"


def test_two_certificates_while_the_key_changes() -> None:
    """Any of the file's certificates vouches; a third one's key does not."""
    both = certificate("old") + certificate()
    for key in ("old", "idp"):
        assert believed(sent(signed(response(), key=key)), pem=both).subject == "alice"
    with pytest.raises(Unauthenticated, match="does not hold"):
        believed(sent(signed(response(), key="mallory")), pem=both)


def test_times_come_along() -> None:
    """Until when it is remembered, and when the provider's session ends, in seconds since the epoch."""
    found = believed(sent(signed(response())))
    assert (found.id, found.until, found.session_until) == ("_a", NOW + 300 + 30, NOW + 3600)


SENTENCES: list[tuple[Any, str]] = [
    (None, r"idp\.pem of SAML provider corp is not there\. Put it there"),
    (b"x", "is no certificate in PEM"),
    (certificate_for(rsa_key("weak", 1024)), "neither RSA of 2048 bits"),
]


@pytest.mark.parametrize(("content", "says"), SENTENCES, ids=["missing", "rubbish", "weak"])
def test_a_certificate_must_be_there(content: bytes | None, says: str, tmp_path: Path) -> None:
    """A certificate that is missing or of no use stops the start, with file and remedy; a good one does not."""
    file = tmp_path / "idp.pem"
    found = policy_of(tmp_path, saml={"corp": dict(POLICY)})
    file.write_bytes(certificate())
    certificates_are_there(found)
    file.unlink()
    if content is not None:
        file.write_bytes(content)
        with pytest.raises(Unavailable):
            believed(sent(signed(response())), pem=content)
    with pytest.raises(PolicyError, match=says):
        certificates_are_there(found)


def test_responses_must_come_to_the_console(tmp_path: Path) -> None:
    """An `acs` that does not end where the console takes this provider's responses stops the start."""
    (tmp_path / "idp.pem").write_bytes(certificate())
    certificates_are_there(policy_of(tmp_path, saml={"corp": dict(POLICY)}))
    with pytest.raises(PolicyError, match=r"saml\.other\.acs does not end with /saml/other/acs"):
        certificates_are_there(policy_of(tmp_path, saml={"other": {**POLICY, "acs": ACS}}))
