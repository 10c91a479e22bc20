"""What travels along the chain: one HTTP request with what each stage found out about it."""

import hashlib
import secrets
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mcp_sod.errors import Refusal
from mcp_sod.policy.findings import Approval
from mcp_sod.policy.patterns import Detector
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.upstreams import Upstream
from mcp_sod.wire.conversation import Conversation
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.ownership import Owner
from mcp_sod.wire.receipts import Handed
from mcp_sod.wire.strict_json import Json, Texts

type Marks = frozenset[tuple[str, str]]  # kinds and values, as `revocation:` names them


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling. `person` holds the keys that tell this person, `actors` those of whoever stands behind it."""

    issuer: str
    subject: str
    person: frozenset[str]
    kind: Literal["human", "machine"]
    groups: frozenset[str]
    client: str | None = None
    actors: frozenset[str] = frozenset()
    expires: float = 0.0  # seconds since the epoch
    fingerprint: str = ""  # keyed hash of the token, for records
    delegated: bool = False  # the token is in the hands of someone who acts for the subject (RFC 8693, `act`)
    marks: Marks = frozenset()  # everything by which it could be revoked

    @property
    def binding(self) -> tuple[str, ...]:
        """What a session or a ticket stays bound to, whichever token the caller shows next."""
        return (self.account, self.client or "", *sorted(self.actors))

    @property
    def account(self) -> str:
        """The one account at the issuer; a person may have several."""
        return f"{self.issuer}#{self.subject}"

    @property
    def behind(self) -> frozenset[str]:
        """Every key of everyone behind a call of this principal; two principals whose keys meet are one person."""
        return self.person | self.actors | {self.account, self.account.casefold()}

    def facts(self) -> dict[str, object]:
        """Return what records say of it."""
        return {
            "issuer": self.issuer,
            "subject": self.subject,
            "person": sorted(self.person),
            "actors": sorted(self.actors),
            "kind": self.kind,
            "client": self.client,
            "token": self.fingerprint,
        }


@dataclass(frozen=True, slots=True)
class Finding:
    """A rule that matched, and where: `at` is `arguments:/sql` or the like."""

    rule: str
    severity: str
    action: Literal["note", "hold", "deny"]
    at: str


@dataclass(frozen=True, slots=True)
class Inspected:
    """The decoded texts of a message with their places, and the detectors that may find something in one of them."""

    texts: Texts
    suspects: frozenset[Detector]
    size: int  # bytes of the message


@dataclass(frozen=True, slots=True)
class Outgoing:
    """Where what goes upstream differs from what came: without the tags of what the caller owns. None: as it came."""

    path: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = None


@dataclass(frozen=True, slots=True)
class Standing:
    """Whose the things are that a call names, and what it belongs to.

    `talk` gives the conversation of a session (empty: none); `session` is the one the call is in.
    """

    owner: Owner
    session: str
    talk: Callable[[str], Conversation]
    outgoing: Outgoing = Outgoing()

    @property
    def conversation(self) -> Conversation:
        """The conversation that the call belongs to."""
        return self.talk(self.session)


@dataclass(frozen=True, slots=True)
class Undecided:
    """No stage has decided yet; at the end of the chain this is a refusal."""


@dataclass(frozen=True, slots=True)
class Allow:
    """The call may go; with a grant when a ticket was needed."""

    ticket: str | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """The call may not go."""

    rules: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Hold:
    """The call needs every one of these approvals (each with the rule that asks for it)."""

    needs: tuple[tuple[str, Approval], ...]


_LONGEST = 256  # characters of what a caller names: a record must fit in the journal whatever the caller sends
_CUT = "…[cut]"

type ReplyKind = Literal["json", "events", "text", "empty", "other"]
type Verdict = Undecided | Allow | Deny | Hold


@dataclass(frozen=True, slots=True)
class Request:
    """The HTTP request as it came: header names in lower case, in order, duplicates kept."""

    method: str
    url: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    authority: str
    peer: str
    forward: bool  # a forward-proxy request, which names its destination itself
    http2: bool = False  # by what was agreed with the client (ALPN)
    version: str = "HTTP/1.1"  # by what the message says
    server_name: str | None = None  # whom the client's TLS asked for (RFC 6066, section 3)
    secure: bool = False  # it came over TLS
    certificate: str | None = None  # SHA-256 thumbprint of the client's certificate (RFC 8705, section 3.1)
    tunnel: tuple[str, ...] = ()  # `Proxy-Authorization` of the CONNECT that it came through

    def header(self, name: str) -> list[str]:
        """Return all values of a header."""
        return [value for key, value in self.headers if key == name]


@dataclass(slots=True)
class Exchange:
    """One request on its way; each stage fills in its part, and the policy it began with stays until its end."""

    policy: Policy
    request: Request
    reference: str = field(default_factory=lambda: f"x-{secrets.token_hex(8)}")
    began: float = field(default_factory=time.monotonic)
    upstream_name: str | None = None
    upstream: Upstream | None = None
    by_endpoint: bool = False  # the request's target is one that the server gave its caller
    call: Call | None = None
    inspected: Inspected | None = None
    principal: Principal | None = None
    token: str | None = field(default=None, repr=False)  # the caller's, until it is exchanged for another
    barred: Callable[[], Refusal | None] = field(default=lambda: None)  # why the principal may act no more, if so
    revoked: Callable[[Marks], bool] = field(default=lambda _marks: False)  # whether whoever has these marks is
    standing: Standing | None = None
    roles: frozenset[str] | None = None
    visible_tool: Callable[[str], bool] | None = None
    findings: tuple[Finding, ...] = ()
    verdict: Verdict = Undecided()
    uncovered: bool = False  # something risky stands where no approval would bind it
    declined: str | None = None  # why a client's answer was refused, where an error goes upstream in its place
    redact: Callable[[str], str] = field(default=lambda _text: "[not shown]")
    separated: bool = False  # no separation by object stands against it
    digest: str | None = None
    ticket: str | None = None
    claimed: bool = False  # what it does to which object is remembered
    on_result: Callable[[Mapping[str, Json]], None] | None = None  # hears each raw answer, before it is masked
    recipient: Literal["sender"] | Handed | None = None  # who gets the result; None: not decided
    collects: str | None = None  # the receipt whose result the call is to get
    awaited: bool = False  # where the result is to wait for someone else, if it is, is durable
    kept: bytes | None = None  # the outcome for that one, masked
    asked_back: bool = False  # it was no outcome but a question of the server's
    settled: bool = False  # what goes to someone else is kept for that one
    recorded: bool = False  # its intent is durable
    reply_kind: ReplyKind | None = None
    bound: bool = False  # what the reply's head names is its owner's
    shown: str = ""  # the call as approvers and records may see it: masked
    shown_whole: bool = False
    reply: Callable[[], Mapping[str, object]] = dict  # gives what the outcome record says of the reply

    @property
    def complete(self) -> bool:
        """Say whether every stage has filled in its part: a stage that was skipped is missed here."""
        return self.judged and self.claimed and self.awaited and self.recorded

    @property
    def judged(self) -> bool:
        """Say whether every stage that judges the call has done so, and the call may be acted upon."""
        parts = (
            self.upstream, self.call, self.principal, self.standing, self.inspected, self.roles, self.digest,
            self.recipient,
        )  # fmt: skip
        return all(part is not None for part in parts) and isinstance(self.verdict, Allow) and self.separated

    def bearings(self) -> dict[str, object]:
        """Return what a record needs to be found with the others of this exchange, and of its ticket."""
        call = self.call
        return {
            "ref": self.reference,
            "policy": self.policy.digest,
            "upstream": self.upstream_name,
            "method": cut(self.redact(call.method)) if call else None,
            "target": cut(self.redact(call.name)) if call and call.name else None,
            "ticket": self.ticket,
            "receipt": self.recipient.receipt.id
            if isinstance(self.recipient, Handed) and self.awaited
            else self.collects,
            "session": fingerprint(self.standing.session) if self.standing and self.standing.session else None,
        }

    def facts(self) -> dict[str, object]:
        """Return what a record says of who asks for what, and what was found; once on record, `bearings` will do."""
        principal = self.principal
        return self.bearings() | {
            "digest": self.digest,
            "principal": principal.facts() if principal else None,
            "roles": sorted(self.roles or ()),
            "findings": [f"{found.action}:{found.rule}@{cut(self.redact(found.at))}" for found in self.findings],
        }


def fingerprint(session: str) -> str:
    """Return what tells sessions apart in records, of which none could be taken over."""
    return hashlib.sha256(session.encode()).hexdigest()[:16]


def cut(text: str) -> str:
    """Return a text short enough for any record; what was cut ends with a mark. Redact first: half a secret is one."""
    return text if len(text) <= _LONGEST else text[: _LONGEST - len(_CUT)] + _CUT
