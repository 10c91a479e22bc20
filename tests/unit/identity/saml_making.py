"""SAML responses, good ones and ones with something wrong, signed as identity providers sign them."""

import base64
import functools
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from lxml import etree
from mcp_sod.policy.issuers import Saml
from signxml.signer import XMLSigner

from tests.world.saml_idp import certificate_for

SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"
SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
DS = "{http://www.w3.org/2000/09/xmldsig#}"
EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
ENTITY, AUDIENCE = "https://idp.example/metadata", "https://mcp.example/saml"
ACS = "https://console.example/saml/corp/acs"
REQUEST = "_" + "1" * 32
NOW = float(int(time.time()))
POLICY: Mapping[str, Any] = {
    "entity": ENTITY, "certificate": "idp.pem", "audience": AUDIENCE, "acs": ACS, "sso": "https://idp.example/sso",
    "claims": {"groups": "groups", "person": ["mail", "employee"]},
}  # fmt: skip

TEMPLATE = f"""<samlp:Response xmlns:samlp="{SAMLP[1:-1]}" xmlns:saml="{SAML[1:-1]}" ID="_r" Version="2.0" \
IssueInstant="{{0}}" Destination="{ACS}" InResponseTo="{REQUEST}"><saml:Issuer>{ENTITY}</saml:Issuer>\
<samlp:Status><samlp:StatusCode Value="urn:oasis:names:tc:SAML:2.0:status:Success"/></samlp:Status>\
<saml:Assertion ID="_a" Version="2.0" IssueInstant="{{0}}"><saml:Issuer>{ENTITY}</saml:Issuer>\
<saml:Subject><saml:NameID Format="urn:oasis:names:tc:SAML:2.0:nameid-format:persistent">alice</saml:NameID>\
<saml:SubjectConfirmation Method="urn:oasis:names:tc:SAML:2.0:cm:bearer">\
<saml:SubjectConfirmationData NotOnOrAfter="{{1}}" Recipient="{ACS}" InResponseTo="{REQUEST}"/>\
</saml:SubjectConfirmation></saml:Subject>\
<saml:Conditions NotBefore="{{0}}" NotOnOrAfter="{{1}}"><saml:AudienceRestriction>\
<saml:Audience>{AUDIENCE}</saml:Audience></saml:AudienceRestriction></saml:Conditions>\
<saml:AuthnStatement AuthnInstant="{{0}}" SessionNotOnOrAfter="{{2}}"/><saml:AttributeStatement>\
<saml:Attribute Name="groups"><saml:AttributeValue>mcp-users</saml:AttributeValue>\
<saml:AttributeValue>staff</saml:AttributeValue></saml:Attribute>\
<saml:Attribute Name="mail"><saml:AttributeValue>alice@example.com</saml:AttributeValue></saml:Attribute>\
</saml:AttributeStatement></saml:Assertion></samlp:Response>"""


class OldSigner(XMLSigner):
    """Signs with what nobody should, too."""

    def check_deprecated_methods(self) -> None:
        """Let it pass."""


@functools.cache
def rsa_key(name: str = "idp", bits: int = 2048) -> rsa.RSAPrivateKey:
    """The RSA key of this name, the same whenever it is asked for."""
    assert name
    return rsa.generate_private_key(public_exponent=65537, key_size=bits)


@functools.cache
def ec_key() -> ec.EllipticCurvePrivateKey:
    """An elliptic curve's."""
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def certificate(name: str = "idp", **times: int) -> bytes:
    """The certificate of the key of this name."""
    return certificate_for(ec_key() if name == "ec" else rsa_key(name), **times)


def instant(seconds: float) -> str:
    """A time as SAML writes it, this many seconds from now."""
    return datetime.fromtimestamp(NOW + seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def policy(**changed: Any) -> Saml:
    """The policy's entry for the provider."""
    return Saml.model_validate({**POLICY, **changed})


def response() -> etree._Element:
    """A good response, not yet signed."""
    return etree.fromstring(TEMPLATE.format(instant(0), instant(300), instant(3600)))


def element(root: etree._Element, name: str) -> etree._Element:
    """The element of that name in a response; `Response/Issuer` is the one right below."""
    if name == "Response":
        return root
    path = "./" + "/".join(f"{{*}}{part}" for part in name.split("/")[1:]) if "/" in name else f".//{{*}}{name}"
    found = root.find(path)
    assert found is not None, name
    return found


def signed(
    root: etree._Element,
    where: Sequence[str] = ("Assertion",),
    *,
    key: str = "idp",
    algorithm: str = "rsa-sha256",
    digest: str = "sha256",
    c14n: str = EXCLUSIVE,
) -> etree._Element:
    """The response with signatures over these of its elements, the inner one first."""
    signer = OldSigner(signature_algorithm=algorithm, digest_algorithm=digest, c14n_algorithm=c14n)
    private: Any = ec_key() if key == "ec" else rsa_key(key)
    private, shown = (certificate(), None) if algorithm.startswith("hmac") else (private, certificate(key).decode())
    for name in sorted(where):
        bare = element(root, name)
        made = signer.sign(bare, key=private, cert=shown, reference_uri=bare.get("ID"), id_attribute="ID")
        if bare is root:
            root = made
        else:
            bare.getparent().replace(bare, made)
    return root


def sent(root: etree._Element, *changes: tuple[str, str]) -> str:
    """The response as a browser brings it, changed on the way."""
    text = etree.tostring(root, encoding="unicode")
    for old, new in changes:
        assert old in text, old
        text = text.replace(old, new, 1)
    return base64.b64encode(text.encode()).decode()
