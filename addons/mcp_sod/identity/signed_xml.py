"""Reads SAML responses so that nothing is believed but what a pinned key has signed (SAML 2.0 core, section 5)."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import Certificate
from lxml import etree
from signxml.algorithms import DigestAlgorithm, SignatureMethod
from signxml.exceptions import InvalidCertificate, SignXMLException
from signxml.verifier import SignatureConfiguration, VerifyResult, XMLVerifier

from mcp_sod.errors import Unauthenticated

LARGEST = 256 * 1024  # bytes of a response
WIDEST = 64  # attributes of one element: what is done with them takes time in the square of their number
SAMLP = "{urn:oasis:names:tc:SAML:2.0:protocol}"
SAML = "{urn:oasis:names:tc:SAML:2.0:assertion}"
_DS = "{http://www.w3.org/2000/09/xmldsig#}"
_ENVELOPED = "http://www.w3.org/2000/09/xmldsig#enveloped-signature"
_EXCLUSIVE = "http://www.w3.org/2001/10/xml-exc-c14n#"
_SHA = ("SHA256", "SHA384", "SHA512")
_DIGESTS = frozenset(DigestAlgorithm[sha] for sha in _SHA)
_METHODS = frozenset(
    SignatureMethod[name] for sha in _SHA for name in (f"RSA_{sha}", f"ECDSA_{sha}", f"{sha}_RSA_MGF1")
)


@dataclass(frozen=True, slots=True)
class Signed:
    """A response with its one assertion, which is read as it was signed; so is the response, if it has a signature."""

    response: etree._Element
    assertion: etree._Element


def parsed(raw: bytes) -> etree._Element:
    """Return the root of a document in UTF-8; raises Unauthenticated.

    What starts with `<!` or `<?` (comments, CDATA, DTDs, processing instructions) has no place in a response, and is
    where readers of one text come to different values.
    """
    if len(raw) > LARGEST:
        raise Unauthenticated("The SAML response is too large.")
    if b"<!" in raw or raw.find(b"<?", 1) != -1 or (raw.startswith(b"<?") and not raw.startswith(b"<?xml ")):
        raise Unauthenticated("The SAML response holds comments, CDATA, a DTD or processing instructions.")
    # The encoding stands above the one that the document declares: what was looked at above is what is read.
    parser = etree.XMLParser(encoding="utf-8", resolve_entities=False, no_network=True, load_dtd=False)
    try:
        root = etree.fromstring(raw, parser)
    except (etree.LxmlError, ValueError):
        raise Unauthenticated("The SAML response is not XML in UTF-8.") from None
    if any(len(element.attrib) > WIDEST for element in root.iter()):
        raise Unauthenticated("An element of the SAML response has too many attributes.")
    return root


def verified(root: etree._Element, certificates: Sequence[Certificate], now: float) -> Signed:
    """Return what the signatures of a response cover: every signature in it must hold, and one must be there.

    Raises Unauthenticated for any other shape than a Response with one Assertion right below it.
    """
    assertion = _the_assertion(root)
    places = _signed_places(root, assertion)
    found = {place: _covered(root, place, certificates, now) for place in places}
    response = found.get(root, root)
    inner = found[assertion] if root not in found else response.find(f"{SAML}Assertion")
    return Signed(response, inner)


def _the_assertion(root: etree._Element) -> etree._Element:
    names = [etree.QName(element).localname for element in root.iter()]
    if root.tag != f"{SAMLP}Response" or names.count("Response") != 1:
        raise Unauthenticated("The document is not one SAML response.")
    if "EncryptedAssertion" in names:
        raise Unauthenticated("The assertion is encrypted, which is not read here.",
                              hint="Let the identity provider send signed assertions in plain, over TLS.")  # fmt: skip
    assertions = root.findall(f"{SAML}Assertion")
    if len(assertions) != 1 or names.count("Assertion") != 1:
        raise Unauthenticated("The SAML response must hold exactly one assertion.")
    ids = [value for element in root.iter() for name, value in element.items()
           if etree.QName(name).localname.lower() == "id"]  # fmt: skip
    if len(set(ids)) != len(ids):
        raise Unauthenticated("Two elements of the SAML response have one ID.")
    return assertions[0]


def _signed_places(root: etree._Element, assertion: etree._Element) -> list[etree._Element]:
    """Return the elements that bear a signature, of which each has one, right below it."""
    places = [signature.getparent() for signature in root.iter("{*}Signature")]
    if not places:
        raise Unauthenticated("The SAML response is not signed.")
    if len(set(places)) != len(places) or not set(places) <= {root, assertion}:
        raise Unauthenticated("A signature stands where it does not belong in a SAML response.")
    return places


def _covered(
    root: etree._Element, place: etree._Element, certificates: Sequence[Certificate], now: float
) -> etree._Element:
    """Return the element as the signature below it covers it, without that signature; its key is a pinned one's."""
    found = _verify(root, "./" if place is root else f"./{SAML}Assertion/", certificates, now)
    signed, reference = found.signed_xml, found.signature_xml.find(f"{_DS}SignedInfo/{_DS}Reference")
    methods = [found.signature_xml.find(f"{_DS}SignedInfo/{_DS}CanonicalizationMethod").get("Algorithm")]
    transforms = [one.get("Algorithm") for one in reference.iter(f"{_DS}Transform")]
    if methods != [_EXCLUSIVE] or transforms != [_ENVELOPED, _EXCLUSIVE]:
        raise Unauthenticated("The signature uses transforms that are not taken here.")
    whole = bool(place.get("ID")) and reference.get("URI") == f"#{place.get('ID')}"
    if not whole or signed is None or signed.tag != place.tag or signed.get("ID") != place.get("ID"):
        raise Unauthenticated("The signature does not cover the element that bears it.")
    return signed


def _verify(root: etree._Element, location: str, certificates: Sequence[Certificate], now: float) -> VerifyResult:
    config = SignatureConfiguration(
        location=location, signature_methods=_METHODS, digest_algorithms=_DIGESTS,
        verification_time=datetime.fromtimestamp(now, UTC),
    )  # fmt: skip
    refused = Unauthenticated("The signature of the SAML response does not hold.")
    for certificate in certificates:
        try:
            found = XMLVerifier().verify(root, x509_cert=certificate, id_attribute="ID", expect_config=config)
        except InvalidCertificate:
            refused = Unauthenticated("The identity provider's certificate is not valid at this time.")
        except (SignXMLException, UnsupportedAlgorithm, etree.LxmlError, ValueError, TypeError, LookupError):
            continue
        else:
            assert isinstance(found, VerifyResult)  # of one reference, as the configuration asks
            return found
    raise refused
