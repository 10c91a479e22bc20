"""What a row of tests/cases/identity may say: a good call with one thing changed, and what comes of it."""

import json
import time
from collections.abc import Mapping
from hashlib import sha256
from typing import Any, Literal

from pydantic import Field

from tests.unit.cases import Part, Table
from tests.unit.identity.token_making import Gives, Token
from tests.world.echo import JSON_TYPE, Reply
from tests.world.issuer import AUDIENCE
from tests.world.keys import Algorithm

VARIANTS = ("paths", "machine", "algorithms")  # what rows of the first table want otherwise of their issuer


class Shown(Gives):
    """What a principal must be, on record."""

    issuer: str | None = None


class Proof(Part):
    """What is wrong with a proof of possession, if anything; the rest is as it must be."""

    header: Mapping[str, Any] = Field(default_factory=dict)
    claims: Mapping[str, Any] = Field(default_factory=dict)
    later: Mapping[str, float] = Field(default_factory=dict)
    jwk: Literal["own", "other"] = "own"
    signer: Literal["own", "other"] = "own"
    private: bool = False
    nonce: Literal["fresh", "earlier"] | None = None
    copies: int = 1
    raw: str | None = None


class Said(Part):
    """What the introspection endpoint says that differs from a good answer; null takes a member away."""

    claims: Mapping[str, Any] = Field(default_factory=dict)
    later: Mapping[str, int] = Field(default_factory=dict)
    status: int = 200
    raw: str | None = None
    location: str | None = None
    padding: int = 0
    after: float = 0  # seconds

    def reply(self) -> Reply:
        """The answer as it goes out."""
        now = int(time.time())
        good = {"active": True, "sub": "alice", "aud": AUDIENCE, "exp": now + 300, "email": "alice@example.com"}
        told = {**good, **self.claims, **{name: now + seconds for name, seconds in self.later.items()}}
        body = json.dumps({name: value for name, value in told.items() if value is not None}) + " " * self.padding
        headers = [JSON_TYPE, *([("Location", self.location)] if self.location else [])]
        whole = Reply.whole((body if self.raw is None else self.raw).encode(), status=self.status, headers=headers)
        return Reply((self.after, *whole.parts)) if self.after else whole


class Row(Token):
    """A good call with one thing changed, and who is seen to call, or the refusal.

    `sent`, `proxy`, `tunnel`: values of Authorization, of Proxy-Authorization, and of the CONNECT's; in them `{}` is
    the token, and `{basic}` the token as the password of the user `token`. `then`: a second request with the same token
    follows, with these changes; `replay`: the same bytes follow.
    """

    gives: Shown | None = None
    issuer: str = ""
    signer: str = ""
    opaque: bool = False
    proxy: list[str] = Field(default_factory=list)
    tunnel: list[str] | None = None
    extra: list[str] = Field(default_factory=list)
    mode: Literal["forward", "reverse"] = "forward"
    host: str = "mcp.example"  # in reverse mode
    to: str = "tools"
    query: str = ""
    requests: int = 1
    holder: Algorithm = "ES256"
    proof: Proof | None = None
    over_tls: bool = False  # to the gateway itself
    certificate: str | None = None
    said: Said = Said()
    secret: bool = True
    asked: int | None = None
    replay: bool = False
    then: Mapping[str, Any] | None = None
    status: int = 401
    code: str = "unauthenticated"
    event: str = "rejected"
    error: str | None = None
    wait: float = 0  # seconds before it is sent
    challenge: list[str] = Field(default_factory=list)
    unchallenged: list[str] = Field(default_factory=list)

    @property
    def challenged(self) -> str | None:
        """The error that a challenge names: none to someone who showed nothing."""
        return self.error or ("invalid_token" if self.sent or self.proxy or self.tunnel else None)


def row_of(table: Table, row: Mapping[str, Any]) -> Row:
    """A row with what its table says of all of them; mappings are joined."""
    whole = dict(table.policy.get("row", {}))
    for name, value in row.items():
        known = whole.get(name)
        whole[name] = {**known, **value} if isinstance(known, Mapping) and isinstance(value, Mapping) else value
    if "wire" in whole:
        whole |= {"status": 400, "code": "malformed", "says": whole["wire"]}
    if "issuers" not in table.policy:
        return Row.model_validate({**whole, "issuer": variant(row)})
    return Row.model_validate({"issuer": next(iter(table.policy["issuers"])), **whole})


def variant(row: Mapping[str, Any]) -> str:
    """The name of the issuer that is as a row of the first table wants it."""
    wanted = {name: row[name] for name in VARIANTS if name in row}
    return "login" if not wanted else f"login-{sha256(repr(wanted).encode()).hexdigest()[:8]}"


def policy_of(table: Table) -> Mapping[str, Any]:
    """What the gateway is told."""
    if "issuers" in table.policy:
        return table.policy
    issuers: dict[str, Any] = {"login": {}}
    for row in table.cases:
        changed = {name: row[name] for name in VARIANTS if name in row and name != "paths"}
        issuers[variant(row)] = changed | ({"claims": row["paths"]} if "paths" in row else {})
    return {"issuers": issuers}
