"""Requests to sign on."""

import base64
import zlib
from urllib.parse import parse_qs, urlsplit

import pytest
from lxml import etree
from mcp_sod.identity.authn_requests import PATIENCE, Requests, address

from tests.unit.identity.saml_making import ACS, AUDIENCE, NOW, SAML, SAMLP, policy


def test_a_request_is_known_again() -> None:
    """What the browser shows names its own request, for ten minutes, at the provider it was made of."""
    requests = Requests()
    request, shown = requests.begin("corp", NOW)
    assert requests.asked("corp", shown, NOW) == request
    assert requests.asked("corp", shown, NOW + PATIENCE - 1) == request
    assert requests.asked("corp", shown, NOW + PATIENCE) is None
    assert requests.asked("other", shown, NOW) is None
    assert Requests().asked("corp", shown, NOW) is None


def test_a_request_cannot_be_made_up() -> None:
    """Another id, a later end, another seal: none is believed; nor is rubbish, or nothing."""
    requests = Requests()
    other, _ = requests.begin("corp", NOW)
    request, shown = requests.begin("corp", NOW)
    assert other != request
    name, expires, seal = shown.split(".")
    wrong = [f"{other}.{expires}.{seal}", f"{name}.{int(expires) + 1}.{seal}", f"{name}.{expires}.{'0' * 64}"]
    for made_up in (*wrong, f"{name}.{expires}", "", "x", "..", None, shown + "0", shown.upper()):
        assert requests.asked("corp", made_up, NOW) is None
    assert requests.asked("corp", shown, NOW) == request


@pytest.mark.parametrize("sso", ["https://idp.example/sso", "https://idp.example/sso?tenant=a&b=<c>"])
def test_the_provider_can_read_it(sso: str) -> None:
    """The address has the request deflated, in base64: id, time, issuer, and where the response goes."""
    saml = policy(sso=sso, audience="https://mcp.example/?a&b<c>")
    found = urlsplit(address(saml, "_1", 1_700_000_000))
    query = parse_qs(found.query)
    assert (f"{found.scheme}://{found.netloc}{found.path}", query.get("tenant")) == (
        "https://idp.example/sso",
        ["a"] if "tenant" in sso else None,
    )
    root = etree.fromstring(zlib.decompress(base64.b64decode(query["SAMLRequest"][0]), wbits=-15))
    assert root.tag == f"{SAMLP}AuthnRequest"
    assert dict(root.attrib) == {
        "Version": "2.0", "ID": "_1", "IssueInstant": "2023-11-14T22:13:20Z", "Destination": sso,
        "AssertionConsumerServiceURL": ACS, "ProtocolBinding": "urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST",
    }  # fmt: skip
    assert root.findtext(f"{SAML}Issuer") == saml.audience != AUDIENCE
