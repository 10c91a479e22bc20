"""What a request shows of who sends it, and the one token in it."""

import base64
import binascii
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, urlsplit

from mcp_sod.errors import Malformed, ProxyUnauthenticated, Unauthenticated
from mcp_sod.exchange import Request

MAX_TOKEN = 16 * 1024  # bytes
USER = "token"  # of `http://token:TOKEN@gateway:8080`


@dataclass(frozen=True, slots=True)
class Presented:
    """Header values that may hold a token, and what a proof of possession is checked against.

    `urls`: the addresses under which the sender may know what it calls, without query; none where it cannot be known.
    """

    authorization: tuple[str, ...] = field(repr=False)
    proxy: tuple[str, ...] = field(default=(), repr=False)
    proofs: tuple[str, ...] = field(default=(), repr=False)
    method: str = "POST"
    urls: frozenset[str] = frozenset()
    certificate: str | None = None  # thumbprint of the sender's (RFC 8705, section 3.1)
    tunnel: bool = False  # `proxy` was said when the tunnel was opened


@dataclass(frozen=True, slots=True)
class Credential:
    """The token, and the scheme that it came with."""

    scheme: Literal["bearer", "dpop"]
    token: str = field(repr=False)


def presented(request: Request, urls: frozenset[str]) -> Presented:
    """Return what a request shows; raises Malformed for a token in the query (RFC 9700, section 4.3.2).

    In reverse mode the gateway is the origin, for which no Proxy-Authorization is meant (RFC 9110, section 11.7.2).
    """
    query = urlsplit(request.url).query
    if query and any(name.lower() == "access_token" for name, _ in parse_qsl(query, keep_blank_values=True)):
        raise Malformed("A token has no place in a URL.", hint="Send it as Authorization: Bearer TOKEN.")
    if not request.forward and request.header("proxy-authorization"):
        raise Unauthenticated("There is no proxy here to be shown a token.", hint="Send Authorization: Bearer TOKEN.")
    return Presented(
        authorization=tuple(request.header("authorization")),
        proxy=(*request.header("proxy-authorization"), *request.tunnel),
        proofs=tuple(request.header("dpop")),
        method=request.method,
        urls=urls,
        certificate=request.certificate,
        tunnel=bool(request.tunnel),
    )


def credential(shown: Presented) -> Credential:
    """Return the one token; raises Unauthenticated (RFC 6750, section 2.1; RFC 9110, section 11.7)."""
    if not shown.authorization and not shown.proxy:
        raise Unauthenticated("The request carries no token.", token_given=False,
                              hint="Send Authorization: Bearer TOKEN.")  # fmt: skip
    if len(shown.authorization) + len(shown.proxy) > 1:
        raise Unauthenticated(
            "The request must carry exactly one token.",
            hint="Authorization, and Proxy-Authorization of the request or of its tunnel, count together.",
        )
    return _from_proxy(shown) if shown.proxy else _from_origin(shown.authorization[0])


def _from_origin(value: str) -> Credential:
    scheme, _, token = value.partition(" ")
    match scheme.lower():
        case "bearer" | "dpop" as known if token and len(token) <= MAX_TOKEN:
            return Credential(known, token)
    raise Unauthenticated("The request must carry exactly one bearer token.")


def _from_proxy(shown: Presented) -> Credential:
    scheme, _, value = shown.proxy[0].partition(" ")
    token = value if scheme.lower() == "bearer" else _of_user(value) if scheme.lower() == "basic" else ""
    if not token or len(token) > MAX_TOKEN:
        kind = Unauthenticated if shown.tunnel else ProxyUnauthenticated
        raise kind("What the proxy was shown is no token.", hint=f"Set HTTP_PROXY=http://{USER}:TOKEN@HOST:PORT.")
    return Credential("bearer", token)


def _of_user(value: str) -> str:
    """Return the token that stands for the password of the user `token` (RFC 7617), or nothing."""
    try:
        user, colon, password = base64.b64decode(value, validate=True).decode("ascii").partition(":")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return ""
    return password if user == USER and colon else ""
