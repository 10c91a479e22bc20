"""The servers behind the gateway, in the policy."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, model_validator

from mcp_sod.policy.part import Part
from mcp_sod.policy.private import Private
from mcp_sod.policy.secrets import Secret
from mcp_sod.policy.units import Seconds

Speaks = Literal["mcp", "mcp-sse", "openai", "anthropic", "http"]
# What a message is framed or read by, or a proxy tells of its client: no place for anything of the gateway's own.
_TAKEN = frozenset({"accept", "connection", "expect", "host", "keep-alive", "origin", "te", "trailer", "upgrade"})
_TAKEN_KINDS = ("accept-", "content-", "mcp-", "proxy-", "transfer-", "x-forwarded-", "x-http-", "x-original-")


def _free(header: str) -> str:
    """Return a header's name in lower case; raises ValueError for one that means something already."""
    name = header.lower()
    if name in _TAKEN or name.startswith(_TAKEN_KINDS):
        raise ValueError("is a header with a meaning of its own; choose another, such as x-gateway-key")
    return name


OwnHeader = Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$"), AfterValidator(_free)]
Visible = Annotated[str, Field(pattern=r"^[\x21-\x7e]{1,512}$")]
Scope = Annotated[str, Field(pattern=r"^[\x21\x23-\x5b\x5d-\x7e]+( [\x21\x23-\x5b\x5d-\x7e]+)*$", max_length=512)]


class HeaderSecret(Secret):
    """A secret that stands in a header of its own, such as a model API's `x-api-key`."""

    name: OwnHeader


class TokenExchange(Part):
    """Where the caller's token is exchanged for one that is meant for the upstream (RFC 8693, section 2.1).

    `client` and `secret`: what the gateway is at the token endpoint (RFC 6749, section 2.3.1). `issuers`: whose tokens
    may be exchanged there; all of `identity` if it is left out, which leaves out the gateway's own, of `saml`.
    """

    url: Private
    client: str = Field(min_length=1)
    secret: Secret
    issuers: Annotated[list[str], Field(min_length=1)] | None = None
    audience: Visible | None = None
    resource: Visible | None = None
    scope: Scope | None = None

    @model_validator(mode="after")
    def _resource_is_whole(self) -> Self:
        parts = urlsplit(self.resource or "urn:none")
        if not parts.scheme or parts.fragment:
            raise ValueError("resource must be an absolute URI with no fragment (RFC 8693, section 2.1)")
        return self


class Credential(Part):
    """The gateway's own credential for an upstream, or how it gets one in the caller's name."""

    bearer: Secret | None = None
    header: HeaderSecret | None = None
    exchange: TokenExchange | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(kind is not None for kind in (self.bearer, self.header, self.exchange)) != 1:
            raise ValueError("a credential is one of {bearer: …}, {header: {name: …, env: …}}, {exchange: {url: …}}")
        return self

    @property
    def secret(self) -> Secret:
        """The secret it rests on."""
        found = self.bearer or self.header or (self.exchange.secret if self.exchange else None)
        assert found is not None
        return found


class Assertion(Part):
    """The gateway's signed word for who calls, by which an upstream tells calls that came through the gateway.

    `audience`: what the upstream calls itself; `lifetime`: how long after it was signed the upstream may believe it.
    """

    audience: str = Field(min_length=1)
    header: Annotated[OwnHeader, Field(pattern=r"^x-")] = "x-sod-assertion"
    lifetime: Seconds = Field(default=60.0, le=300)


class Upstream(Part):
    """A server behind the gateway; anything not listed is refused.

    `speaks`: `mcp` is streamable HTTP, `mcp-sse` the older HTTP with SSE (2024-11-05). Model APIs have their endpoints
    below the URL. An `http` service is its URL alone or, where that ends with a slash, all that is below it.
    `provider_mcp`: whether a model's provider may be told to call MCP servers by itself, round this gateway.
    """

    url: str
    speaks: Speaks
    credential: Credential | None = None
    assertion: Assertion | None = None
    provider_mcp: Literal["refuse", "allow"] = "refuse"

    @model_validator(mode="after")
    def _url_is_whole(self) -> Self:
        parts = urlsplit(self.url)
        whole = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0  # `port` checks its range
        if not whole or parts.fragment or parts.username:
            raise ValueError("url must be http(s)://host[:port]/path with no user and no fragment")
        if parts.query and self.speaks not in ("mcp", "mcp-sse"):
            raise ValueError("url must have no query, since calls have their own")
        return self

    @model_validator(mode="after")
    def _headers_differ(self) -> Self:
        shown = self.credential.header if self.credential else None
        if shown is not None and self.assertion is not None and shown.name == self.assertion.header:
            raise ValueError("credential and assertion need a header each")
        return self
