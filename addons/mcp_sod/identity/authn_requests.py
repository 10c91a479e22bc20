"""Requests to sign on (SAML 2.0 bindings, section 3.4), each bound to the browser that made it.

The browser keeps the request's id, sealed: whoever floods the console with requests fills no memory and pushes nobody
out, and a response holds in no other browser.
"""

import base64
import hashlib
import hmac
import re
import secrets
import zlib
from datetime import UTC, datetime
from urllib.parse import urlencode
from xml.sax.saxutils import quoteattr

from mcp_sod.policy.issuers import Saml

PATIENCE = 600  # seconds to sign on in
_SEAL = re.compile(r"(_[0-9a-f]{32})\.(\d{1,12})\.([0-9a-f]{64})")


class Requests:
    """Makes requests, and knows its own again; those of an earlier start are none."""

    def __init__(self) -> None:
        """Begin with a key of its own."""
        self._key = secrets.token_bytes(32)

    def begin(self, provider: str, now: float) -> tuple[str, str]:
        """Return a new request's id, and what the browser is to show with the response."""
        request, expires = f"_{secrets.token_hex(16)}", int(now) + PATIENCE
        return request, f"{request}.{expires}.{self._mac(provider, request, expires)}"

    def asked(self, provider: str, shown: str | None, now: float) -> str | None:
        """Return the id of the request that the browser made of this provider, if it shows one in time."""
        match = _SEAL.fullmatch(shown or "")
        if match is None or int(match[2]) <= now:
            return None
        return match[1] if hmac.compare_digest(self._mac(provider, match[1], int(match[2])), match[3]) else None

    def _mac(self, provider: str, request: str, expires: int) -> str:
        return hmac.new(self._key, f"{provider} {request} {expires}".encode(), hashlib.sha256).hexdigest()


def address(saml: Saml, request: str, now: float) -> str:
    """Return where the browser goes to sign on: the provider's address with the request in it (HTTP-Redirect)."""
    made = datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    document = (
        '<samlp:AuthnRequest xmlns:samlp="urn:oasis:names:tc:SAML:2.0:protocol"'
        ' xmlns:saml="urn:oasis:names:tc:SAML:2.0:assertion" Version="2.0"'
        f' ID="{request}" IssueInstant="{made}" Destination={quoteattr(saml.sso)}'
        f" AssertionConsumerServiceURL={quoteattr(saml.acs)}"
        ' ProtocolBinding="urn:oasis:names:tc:SAML:2.0:bindings:HTTP-POST">'
        f"<saml:Issuer>{_escaped(saml.audience)}</saml:Issuer>"
        '<samlp:NameIDPolicy AllowCreate="true"/></samlp:AuthnRequest>'
    )
    packer = zlib.compressobj(wbits=-15)
    packed = packer.compress(document.encode()) + packer.flush()
    query = urlencode({"SAMLRequest": base64.b64encode(packed).decode()})
    return f"{saml.sso}{'&' if '?' in saml.sso else '?'}{query}"


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
