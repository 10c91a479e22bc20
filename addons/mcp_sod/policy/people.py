"""What people may do, what they may never be at once, and who may do nothing any more, in the policy."""

from typing import Annotated, Final, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from mcp_sod.policy.part import Part
from mcp_sod.policy.units import Seconds


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


def _spelled_out(written: object) -> object:
    """Return what a bare list of roles stands for."""
    return {"roles": written} if isinstance(written, list) else written


class Exclusive(Part):
    """Roles of which nobody may hold more than `most` (NIST RBAC, static separation of duty with a cardinality)."""

    roles: list[str] = Field(min_length=2)
    most: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _excludes_something(self) -> Self:
        if len(set(self.roles)) != len(self.roles):
            raise ValueError("names a role twice")
        if self.most >= len(self.roles):
            raise ValueError("most must be less than the number of roles, or nothing is excluded")
        return self

    def __str__(self) -> str:
        """Return it as people write it."""
        roles = f"[{', '.join(self.roles)}]"
        return roles if self.most == 1 else f"{{roles: {roles}, most: {self.most}}}"


class Duty(Part):
    """An act upon an object: a tool (a shell glob) of one upstream or of all, and where the object's key is.

    `key` is a JSON pointer (RFC 6901) into the call's arguments or its result: `arguments:/invoice_id`, `result:/id`.
    A list there is several objects. Of a result, its structured content is read, or else its first text as JSON.
    """

    tool: str = Field(min_length=1)
    key: str = Field(pattern=r"^(arguments|result):(/([^~/]|~[01])*)+$")
    upstream: str | None = None


class ByObject(Part):
    """Acts upon one object of which nobody may do more than one. `keep`: for how long who did what is remembered.

    `unknown`: whether an object may be acted upon of which it is not remembered who did the first duty, its making.
    `open_for`: for how long an act whose object never became known keeps its person from objects without a known
    maker. Longer locks out people whose call merely failed; shorter lets them act upon what it made after all.
    """

    duties: list[Duty] = Field(min_length=2)
    keep: Seconds = 400 * 86400.0
    unknown: Literal["allow", "refuse"] = "allow"
    open_for: Seconds = 86400.0

    @model_validator(mode="after")
    def _tells_duties_apart(self) -> Self:
        if any(duty in self.duties[:index] for index, duty in enumerate(self.duties)):
            raise ValueError("names a duty twice, so that nobody could do it")
        return self


class Separation(Part):
    """Duties that exclude each other."""

    static: list[Annotated[Exclusive, BeforeValidator(_spelled_out)]] = Field(default_factory=list)
    by_object: list[ByObject] = Field(default_factory=list)

    @property
    def exclusions(self) -> tuple[Exclusive, ...]:
        """Every static rule; a bare list of roles allows one of them."""
        return tuple(self.static)


class Handover(Part):
    """Results of these tools (shell globs) go to whoever holds the role `to`, and not to the sender.

    `within`: for how long a result waits to be collected.
    """

    tools: list[str] = Field(min_length=1)
    upstream: str | None = None
    to: str
    within: Seconds = Field(default=86400.0, le=30 * 86400)


VIEWER: Final = "viewer"  # who gets what `default: receipt` hands over


class Delivery(Part):
    """Who gets the results: the sender (`inline`), or with `receipt` the role `viewer` of every tool not named."""

    default: Literal["inline", "receipt"] = "inline"
    rules: list[Handover] = Field(default_factory=list)


Kind = Literal["subject", "person", "client", "token", "session", "key"]


class Revoked(Part):
    """Who may do nothing any more, whatever their tokens say; exactly one of these.

    `subject`: `sub`, or `issuer#sub`; `token`: a `jti`, or the fingerprint from a record; `session`: the fingerprint
    from a record; `key`: the thumbprint that a token is bound to (RFC 7638, RFC 8705), or the `kid` it was signed with.
    """

    subject: str | None = None
    person: str | None = None
    client: str | None = None
    token: str | None = None
    session: str | None = None
    key: str | None = None
    reason: str = ""

    @model_validator(mode="after")
    def _one(self) -> Self:
        if sum(value is not None for value in self._values().values()) != 1:
            raise ValueError("names exactly one of subject, person, client, token, session, key")
        return self

    def _values(self) -> dict[Kind, str | None]:
        return {"subject": self.subject, "person": self.person, "client": self.client, "token": self.token,
                "session": self.session, "key": self.key}  # fmt: skip

    @property
    def named(self) -> tuple[Kind, str]:
        """What is revoked: its kind and value."""
        return next((kind, value) for kind, value in self._values().items() if value is not None)


class Revocation(Part):
    """Who may revoke by command (`role`), and who is revoked for good."""

    role: str | None = None
    revoked: list[Revoked] = Field(default_factory=list)
