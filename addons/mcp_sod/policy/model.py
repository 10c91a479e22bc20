"""The shape of the policy. What is not written here is refused, so nothing in a policy is silently without effect."""

import ipaddress
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from mcp_sod.policy.patterns import detector
from mcp_sod.policy.units import Bytes, Seconds


def _compiles(source: str) -> str:
    detector("", source)
    return source


Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$")]
Algorithm = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]
Speaks = Literal["mcp", "mcp-sse", "openai", "anthropic", "http"]
Regex = Annotated[str, AfterValidator(_compiles)]


class Part(BaseModel):
    """Base of every part of the policy: unknown keys are errors, nothing changes after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Limits(Part):
    """How much of a message is read, how long it may take to arrive, and how long a held caller is kept waiting."""

    body: Bytes = 4 << 20
    depth: int = Field(default=64, ge=4, le=200)
    hold: Seconds = Field(default=45.0, le=300)
    arrival: Seconds = Field(default=30.0, ge=1, le=600)


class Gateway(Part):
    """This gateway: its name in the audit, its state folder, where the console listens."""

    name: Name
    state: str = "var"
    console: str = "127.0.0.1:8081"
    limits: Limits = Limits()

    @property
    def console_address(self) -> tuple[str, int]:
        """Host and port of the console."""
        host, _, port = self.console.rpartition(":")
        return host.strip("[]"), int(port)

    @model_validator(mode="after")
    def _console_is_an_address(self) -> Self:
        host, _, port = self.console.rpartition(":")
        if not (host and port.isdigit() and int(port) < 65536):
            raise ValueError("console must be HOST:PORT, such as 127.0.0.1:8081")
        ipaddress.ip_address(host.strip("[]"))
        return self


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


class Pattern(Part):
    """A named thing to look for, shared by rules and masks."""

    regex: Regex | None = None
    keywords: list[Annotated[str, Field(min_length=2)]] = Field(default_factory=list)

    @model_validator(mode="after")
    def _not_empty(self) -> Self:
        if self.regex is None and not self.keywords:
            raise ValueError("needs regex: or keywords:")
        return self


class Where(Part):
    """Which calls, and which of their texts, a rule looks at; what is left out matches all."""

    upstreams: list[str] = Field(default_factory=list)
    methods: list[str] = Field(default_factory=list)
    tools: list[str] = Field(default_factory=list)
    at: list[Annotated[str, Field(pattern=r"^(arguments|params):(/.*)?$")]] = Field(default_factory=list)


class Approval(Part):
    """Who must agree to a held call: how many different people with this role, and by when."""

    role: str = "approver"
    votes: int = Field(default=1, ge=1, le=10)
    within: Seconds = Field(default=14400.0, le=30 * 86400)


class Rule(Part):
    """A rule of what is risky. With nothing to look for, every call that `where` names matches."""

    id: Name
    detect: list[str] = Field(default_factory=list)
    regex: Regex | None = None
    keywords: list[Annotated[str, Field(min_length=2)]] = Field(default_factory=list)
    where: Where = Where()
    severity: Literal["low", "medium", "high", "critical"] = "medium"
    action: Literal["note", "hold", "deny"]
    approval: Approval | None = None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not (self.detect or self.regex or self.keywords or self.where != Where()):
            raise ValueError("matches everything: give detect:, regex:, keywords: or where:")
        if self.where.at and not (self.detect or self.regex or self.keywords):
            raise ValueError("where.at says which texts to look at, but there is nothing to look for in them")
        if self.approval is not None and self.action != "hold":
            raise ValueError("approval: goes with action: hold")
        return self


class Mask(Part):
    """What is taken out of replies, unless the reader has one of the `raw_for` roles."""

    id: Name
    detect: list[str] = Field(default_factory=list)
    regex: Regex | None = None
    fields: list[Annotated[str, Field(pattern=r"^[A-Za-z0-9_.*?-]+$")]] = Field(default_factory=list)
    style: Literal["redact"] = "redact"
    raw_for: list[str] = Field(default_factory=list)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not (self.detect or self.regex or self.fields):
            raise ValueError("needs detect:, regex: or fields:")
        return self


class Retention(Part):
    """How long the store must refuse to let go of records (S3 Object Lock)."""

    mode: Literal["COMPLIANCE"] = "COMPLIANCE"
    days: int = Field(default=2555, ge=1)


class Refuse(Part):
    """Keep serving while the store is away until this much waits in the spool."""

    refuse_after: Bytes


class Audit(Part):
    """Where records go, for how long, and how hard they are written."""

    store: str = Field(default="file:var/audit", pattern=r"^(file:.+|s3://[^/]+(/.*)?)$")
    retention: Retention = Retention()
    durability: Literal["process", "power"] = "process"
    when_unavailable: Literal["refuse"] | Refuse = "refuse"


class Document(Part):
    """The whole policy as it is written.

    Every section must be there, if only as `[]` or `{}`: a file that got lost must not pass for a policy with no rules.
    """

    version: Literal[1]
    gateway: Gateway
    upstreams: dict[Name, Upstream]
    identity: list[Issuer]
    roles: dict[Name, Role]
    permissions: dict[str, list[Permission]]
    separation: Separation
    detectors: dict[Name, Pattern] = Field(default_factory=dict)
    rules: list[Rule]
    masking: list[Mask]
    audit: Audit
