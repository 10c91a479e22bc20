"""Whose word is believed about who is calling, in the policy."""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from mcp_sod.policy.part import Part
from mcp_sod.policy.private import Private, private
from mcp_sod.policy.secrets import Secret
from mcp_sod.policy.units import Seconds

Algorithm = Literal["ES256", "ES384", "ES512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "EdDSA"]
Texts = Annotated[list[str], Field(min_length=1)]


class Keys(Part):
    """An issuer's key set (RFC 7517), from a file or a URL."""

    url: Private | None = None
    file: str | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.url is None) == (self.file is None):
            raise ValueError("keys are either {url: URL} or {file: PATH}, or the word discover")
        return self


class Claims(Part):
    """Where in the token things are; dotted paths reach into objects (`realm_access.roles`).

    `groups` may name several places, or none where only `grants` give groups. `actors` are whoever stands behind the
    caller, beside the whole `act` chain. Each of `person` must be in a person's token, but for those that end with a
    question mark: what may be left out can be hidden, by asking for a token without it.
    """

    groups: str | list[str] = "groups"
    person: list[str] = Field(default=["email"], min_length=1)
    actors: list[str] = Field(default=["act.sub"])
    client: str = "azp"

    @property
    def person_paths(self) -> tuple[str, ...]:
        """Every place of a person key."""
        return tuple(name.removesuffix("?") for name in self.person)

    @property
    def required_person_paths(self) -> tuple[str, ...]:
        """Those that the token of a person must have."""
        return tuple(name for name in self.person if not name.endswith("?"))

    @property
    def group_paths(self) -> tuple[str, ...]:
        """Every place of groups."""
        return (self.groups,) if isinstance(self.groups, str) else tuple(self.groups)


class Machine(Part):
    """The claim that tells a machine from a person."""

    claim: str
    equals: str


Conditions = Mapping[str, str | Texts]  # claim → what it must be, or one of several; `*` stands for any text


class Grant(Part):
    """Groups for tokens that name none, such as those of CI jobs, by what else they say."""

    groups: Texts
    when: Annotated[Conditions, Field(min_length=1)]


class Introspection(Part):
    """Where the issuer is asked about a token (RFC 7662), and for how long its answer is believed.

    `tokens`: `opaque` asks about tokens that are no JWT, `all` about this issuer's JWTs as well.
    """

    url: Private
    client: str = Field(min_length=1)
    secret: Secret
    cache: Seconds = Field(default=30.0, le=300)
    tokens: Literal["opaque", "all"] = "opaque"


class Dpop(Part):
    """How proofs of possession are checked (RFC 9449): how old one may be, and whether it needs a fresh nonce."""

    age: Seconds = Field(default=60.0, le=300)
    nonce: Literal["required", "optional"] = "optional"


class Issuer(Part):
    """An identity provider that is believed, and for what.

    `proof`: `bearer` takes plain tokens alone, `dpop` and `mtls` only tokens that are bound in that way and proven,
    `either` takes both; a bound token is never taken without its proof. `usable`: how long known keys serve while newer
    ones cannot be had. `owners`: whose a client or subject is, by person keys.
    """

    issuer: str = Field(min_length=1)
    audience: list[str] = Field(min_length=1)
    keys: Keys | Literal["discover"] | None = None
    algorithms: list[Algorithm] = Field(default=["ES256"], min_length=1)
    claims: Claims = Field(default_factory=Claims)
    machine: Machine | Literal["none", "all"]  # no default: approvals rest on it
    proof: Literal["bearer", "dpop", "mtls", "either"] = "either"
    dpop: Dpop = Dpop()
    leeway: Seconds = Field(default=30.0, le=120)
    max_age: Seconds | None = None
    usable: Seconds = 3600.0
    scopes: list[str] = Field(default_factory=list)
    require: Conditions = Field(default_factory=dict)
    grants: list[Grant] = Field(default_factory=list)
    owners: Mapping[str, Texts] = Field(default_factory=dict)
    introspection: Introspection | None = None

    @model_validator(mode="after")
    def _has_a_source(self) -> Self:
        if self.keys is None and self.introspection is None:
            raise ValueError("needs keys: (discover, {url: …} or {file: …}), or introspection: for opaque tokens")
        if self.keys is None and self.introspection is not None and self.introspection.tokens == "all":
            raise ValueError("introspection of all tokens needs keys: too, since JWTs are verified here first")
        if self.keys == "discover":
            private(self.issuer)
        return self


class SamlClaims(Part):
    """Which attributes of an assertion say what; `NameID` stands for the subject's own name."""

    groups: str = "groups"
    person: list[str] = Field(default=["email"], min_length=1)


class Saml(Part):
    """A SAML 2.0 identity provider whose signed responses the console takes for a short-lived token of the gateway.

    `entity`: the provider's entityID; `audience`: this gateway's own, as the provider knows it; `acs`: the URL to which
    responses are sent, `https://…/saml/NAME/acs`; `sso`: where people are sent to sign on (HTTP-Redirect binding).
    """

    entity: str = Field(min_length=1)
    certificate: str  # PEM file beside the policy folder
    audience: str = Field(min_length=1)
    acs: Private
    sso: Private
    claims: SamlClaims = Field(default_factory=SamlClaims)
    lifetime: Seconds = Field(default=900.0, le=3600)
    leeway: Seconds = Field(default=30.0, le=120)
    unsolicited: Literal["refuse", "allow"] = "refuse"
