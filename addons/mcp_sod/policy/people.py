"""Who is believed, what they may do, and what they may never be at once, in the policy."""

from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from mcp_sod.policy.part import Part
from mcp_sod.policy.units import Seconds

Algorithm = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]


def _private(url: str) -> bool:
    parts = urlsplit(url)
    if parts.scheme == "https":
        return bool(parts.hostname)
    return parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")


class Keys(Part):
    """An issuer's key set (RFC 7517), from a file or a URL."""

    url: str | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.url is None) == (self.file is None):
            raise ValueError("keys are either {url: URL} or {file: PATH}")
        if self.url is not None and not _private(self.url):
            raise ValueError("keys.url must be https (http only on a loopback address)")
        return self


class Claims(Part):
    """Where in the token things are; dotted paths reach into objects (`realm_access.roles`)."""

    groups: str = "groups"
    person: list[str] = Field(default=["email"], min_length=1)
    actors: list[str] = Field(default=["act.sub"])
    client: str = "azp"


class Machine(Part):
    """The claim that tells a machine from a person."""

    claim: str
    equals: str


class Issuer(Part):
    """An identity provider that is believed, and for what."""

    issuer: str = Field(min_length=1)
    audience: list[str] = Field(min_length=1)
    keys: Keys
    algorithms: list[Algorithm] = Field(default=["ES256"], min_length=1)
    claims: Claims = Field(default_factory=Claims)
    machine: Machine | Literal["none"]  # no default: approvals rest on it
    leeway: Seconds = Field(default=30.0, le=120)


class Role(Part):
    """A role is given to the members of groups; `humans` keeps machines out of it."""

    groups: list[str] = Field(min_length=1)
    humans: bool = False


class Permission(Part):
    """What a role may call on one upstream; patterns are shell globs."""

    upstream: str
    methods: list[str] = Field(min_length=1)
    tools: list[str] = Field(default_factory=list)
    except_: list[str] = Field(default_factory=list, alias="except")


class Separation(Part):
    """Duties that exclude each other."""

    static: list[Annotated[list[str], Field(min_length=2)]] = Field(default_factory=list)
