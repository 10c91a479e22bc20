"""Small real things that unit tests start from: policies, calls, principals, exchanges, a journal that can break."""

import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from mcp_sod.errors import AuditError
from mcp_sod.exchange import Exchange, Inspected, Principal, Request, Standing
from mcp_sod.policy.load import load
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.conversation import Conversations
from mcp_sod.wire.headers import STATELESS_SINCE
from mcp_sod.wire.mcp import Call, read_call
from mcp_sod.wire.ownership import Owner

GATEWAY: Mapping[str, Any] = {"name": "gw-test", "state": "state"}
EMPTY: Mapping[str, Any] = {
    "upstreams": {}, "identity": [], "roles": {}, "permissions": {}, "separation": {}, "rules": [], "masking": [],
    "audit": {}, "revocation": {}, "delivery": {},
}  # fmt: skip
UPSTREAM = "http://127.0.0.1:9000/mcp"


def policy_of(folder: Path, **sections: Any) -> Policy:
    """The policy with these sections, written to a folder and loaded as the gateway does."""
    upstreams = {"tools": {"url": UPSTREAM, "speaks": "mcp"}}
    whole = {"version": 1, "gateway": GATEWAY, **EMPTY, "upstreams": upstreams} | sections
    (folder / "policy").mkdir(parents=True, exist_ok=True)
    (folder / "policy" / "policy.yaml").write_text(yaml.safe_dump(whole, sort_keys=False, allow_unicode=True))
    return load(folder / "policy")


def call_of(
    method: str = "tools/call",
    params: Mapping[str, Any] | None = None,
    *,
    request_id: int | str | None = 1,
    headers: Mapping[str, str] | None = None,
) -> Call:
    """The call that this message makes, read from its bytes; the body says the version that the headers say."""
    version = (headers or {}).get("mcp-protocol-version", "")
    if version >= STATELESS_SINCE:
        meta = {"io.modelcontextprotocol/protocolVersion": version}
        params = {**(params or {}), "_meta": {**(params or {}).get("_meta", {}), **meta}}
    return read_call(headers or {}, body_of(method, params, request_id=request_id), 64)


def body_of(method: str, params: Mapping[str, Any] | None = None, *, request_id: int | str | None = 1) -> bytes:
    """The bytes of a JSON-RPC message; without an id, a notification."""
    message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
    message |= {} if request_id is None else {"id": request_id}
    return json.dumps(message | ({} if params is None else {"params": params})).encode()


def tool_call(tool: str = "query", **arguments: Any) -> Call:
    """A `tools/call` with these arguments."""
    return call_of(params={"name": tool, "arguments": arguments})


def principal_of(subject: str = "alice", *, issuer: str = "https://login.example", **facts: Any) -> Principal:
    """A person of this name, whose person key is an address, unless `facts` say otherwise."""
    known: dict[str, Any] = {"person": frozenset({f"{subject}@example.com"}), "kind": "human", "groups": frozenset()}
    sets = {name: frozenset(value) if isinstance(value, list | set) else value for name, value in facts.items()}
    return Principal(issuer, subject, **{**known, **sets})


def request_of(call: Call | None = None, **changed: Any) -> Request:
    """The HTTP request that carries a call to the upstream `tools`."""
    body = json.dumps(call.message).encode() if call else b"{}"
    facts = {"method": "POST", "url": UPSTREAM, "headers": (("content-type", "application/json"),), "body": body}
    return Request(**{**facts, "authority": "", "peer": "127.0.0.1", "forward": True, **changed})


def exchange_of(policy: Policy, call: Call, principal: Principal | None = None) -> Exchange:
    """The exchange of a call, as it stands once the call's texts are inspected."""
    exchange = Exchange(policy, request_of(call))
    exchange.upstream_name, exchange.upstream, exchange.call = "tools", policy.document.upstreams["tools"], call
    exchange.principal = principal or principal_of()
    exchange.standing = standing_of(exchange.principal)
    exchange.bound = True
    exchange.digest = call.digest("tools")
    exchange.redact = str
    exchange.inspected = inspected(policy, call)
    exchange.recipient = "sender"
    return exchange


def standing_of(principal: Principal, session: str = "", conversations: Conversations | None = None) -> Standing:
    """Where a call of this principal stands, in a session or none."""
    owner = Owner.of(b"o" * 32, "tools", *principal.binding)
    return Standing(owner, session, functools.partial((conversations or Conversations()).of, owner.key))


def inspected(policy: Policy, call: Call) -> Inspected:
    """What the masking stage finds out about a call before the rules look at it."""
    texts = call.texts()
    return Inspected(texts, policy.sweep.suspects(texts.plain()), len(json.dumps(call.message)))


class Memory:
    """A journal in memory, which breaks when told to, as one on a full disk does."""

    def __init__(self) -> None:
        self.records: list[dict[str, Any]] = []
        self.broken = False

    async def write(self, event: str, **fields: object) -> int:
        """Keeps the record, or raises what a broken journal raises."""
        if self.broken:
            raise AuditError("The journal is broken: no space left.")
        self.records.append({"event": event, **fields})
        return len(self.records) - 1

    @property
    def events(self) -> list[str]:
        """The events, oldest first."""
        return [record["event"] for record in self.records]
