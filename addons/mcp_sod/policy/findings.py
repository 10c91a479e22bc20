"""What is risky and what is sensitive, in the policy."""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mcp_sod.policy.part import Name, Part, Regex
from mcp_sod.policy.units import Seconds


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
