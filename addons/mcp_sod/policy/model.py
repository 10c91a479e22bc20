"""The shape of the policy. What is not written here is refused, so nothing in a policy is silently without effect."""

import ipaddress
from typing import Literal, Self
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from mcp_sod.policy.findings import Mask, Pattern, Rule
from mcp_sod.policy.issuers import Issuer, Saml
from mcp_sod.policy.part import Name, Part
from mcp_sod.policy.people import Delivery, Permission, Revocation, Role, Separation
from mcp_sod.policy.private import Private
from mcp_sod.policy.units import Bytes, Seconds
from mcp_sod.policy.upstreams import Upstream


class Limits(Part):
    """How much of a message is read, how long it may take to arrive, and how long a held caller is kept waiting."""

    body: Bytes = 4 << 20
    depth: int = Field(default=64, ge=4, le=200)
    hold: Seconds = Field(default=45.0, le=300)
    arrival: Seconds = Field(default=30.0, ge=1, le=600)


class Gateway(Part):
    """This gateway: its name in the audit, its state folder, where the console listens.

    `database`: tickets, revocations and what else outlives a restart; a path below the state folder, or an absolute one
    that several gateways of one machine share. `public`: the origins (`https://host[:port]`) under which
    clients in reverse mode know it.
    """

    name: Name
    state: str = "var"
    database: str = "tickets.sqlite"
    console: str = "127.0.0.1:8081"
    public: list[Private] = Field(default_factory=list)
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

    @model_validator(mode="after")
    def _public_is_origins(self) -> Self:
        for origin in self.public:
            if urlsplit(origin).path or urlsplit(origin).query or urlsplit(origin).username:
                raise ValueError("public must be origins, such as https://mcp.example.com, with no path")
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
    saml: dict[Name, Saml] = Field(default_factory=dict)
    roles: dict[Name, Role]
    permissions: dict[str, list[Permission]]
    separation: Separation
    delivery: Delivery
    revocation: Revocation
    detectors: dict[Name, Pattern] = Field(default_factory=dict)
    rules: list[Rule]
    masking: list[Mask]
    audit: Audit
