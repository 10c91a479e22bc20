"""The servers behind the gateway, in the policy."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from mcp_sod.policy.part import Part

Speaks = Literal["mcp", "mcp-sse", "openai", "anthropic", "http"]


class Secret(Part):
    """Where a secret is read from; a policy never holds the secret itself."""

    env: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.env is None) == (self.file is None):
            raise ValueError("a secret is either {env: NAME} or {file: PATH}")
        return self


class HeaderSecret(Secret):
    """A secret that stands in a header of its own, such as a model API's `x-api-key`."""

    name: Annotated[str, Field(pattern=r"^[A-Za-z][A-Za-z0-9-]{0,63}$")]


class Credential(Part):
    """The gateway's own credential for an upstream."""

    bearer: Secret | None = None
    header: HeaderSecret | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.bearer is None) == (self.header is None):
            raise ValueError("a credential is either {bearer: …} or {header: {name: …, env: …}}")
        return self


class Upstream(Part):
    """A server behind the gateway; anything not listed is refused.

    `speaks`: `mcp` is streamable HTTP, `mcp-sse` the older HTTP with SSE (2024-11-05). Model APIs have their endpoints
    below the URL. An `http` service is its URL alone or, where that ends with a slash, all that is below it.
    `provider_mcp`: whether a model's provider may be told to call MCP servers by itself, round this gateway.
    """

    url: str
    speaks: Speaks
    credential: Credential | None = None
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
