"""Who may collect what: the truth tables, through the real chain and at the real console."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest
from mcp_sod.console.api import build
from mitmproxy import http
from mitmproxy.test import tflow
from pydantic import Field

from tests.unit.cases import Case, Part, rows
from tests.unit.house import House, house
from tests.unit.making import body_of
from tests.unit.test_chain import Chain

PORTS = {"tools": 9000, "other": 9001}
PAYLOAD = "all customers"
RESULT = {"content": [{"type": "text", "text": PAYLOAD}]}


class Person(Part):
    """Someone with a token; `email: null` leaves it out."""

    who: str
    groups: list[str]
    email: str | None = ""
    machine: bool = False
    email_verified: bool | None = None
    actor: str | None = None
    act: Mapping[str, Any] | None = None

    def token(self, house: House) -> str:
        """Their token."""
        claims = {name: getattr(self, name) for name in ("email_verified", "actor", "act")}
        email = f"{self.who}@example.com" if self.email == "" else self.email
        known = {name: value for name, value in claims.items() if value is not None}
        return house.issuer.token(self.who, groups=self.groups, email=email, machine=self.machine, **known)


class Row(Case):
    """A call and who wants to collect its result: through the gateway, and at the console."""

    tool: str = "export_all"
    at: str = "tools"
    collects_at: str | None = None
    sender: Mapping[str, Any] = Field(default_factory=dict)
    collector: Mapping[str, Any] = Field(default_factory=dict)
    inline: bool = False
    refused: str | None = None
    says: str | None = None


def asked(chain: Chain, person: Person, upstream: str, tool: str, arguments: Mapping[str, Any]) -> http.HTTPFlow:
    """A `tools/call` on its way."""
    flow, body = tflow.tflow(), body_of("tools/call", {"name": tool, "arguments": arguments})
    headers: dict[str | bytes, str | bytes] = {
        "host": f"127.0.0.1:{PORTS[upstream]}",
        "content-type": "application/json",
        "authorization": f"Bearer {person.token(chain.house)}",
    }
    flow.request = http.Request.make("POST", f"http://127.0.0.1:{PORTS[upstream]}/mcp", body, headers)
    return flow


def told(flow: http.HTTPFlow) -> dict[str, Any]:
    """The gateway's own answer."""
    assert flow.response
    found: dict[str, Any] = json.loads(flow.response.raw_content or b"")["result"]
    return found


async def sent(chain: Chain, row: Row) -> dict[str, Any]:
    """What the sender is told, once the upstream has answered."""
    person = Person(**{"who": "alice", "groups": ["users"], **row.sender})
    flow = asked(chain, person, row.at, row.tool, {})
    if not await chain.ask(flow):
        return told(flow)
    alias = json.loads(flow.request.raw_content or b"")["id"]
    reply = await chain.answer(flow, json.dumps({"jsonrpc": "2.0", "id": alias, "result": RESULT}).encode())
    assert (PAYLOAD in reply.decode()) is row.inline
    result: dict[str, Any] = json.loads(reply)["result"]
    return result


@pytest.mark.parametrize("way", ["a call", "the console"])
@pytest.mark.parametrize(("sections", "row"), rows("delivery", Row))
async def test_who_may_collect(sections: Mapping[str, Any], row: Row, way: str, tmp_path: Path) -> None:
    """The sender gets a receipt, or the result where no handover names the tool; only who may collects it, once."""
    async with house(tmp_path, **{"permissions": SENDS, "rules": [], **sections}) as built:
        chain = Chain(built)
        result = await sent(chain, row)
        if row.refused is not None:
            assert row.refused in result["content"][0]["text"]
            return
        if row.inline:
            return
        receipt = result["_meta"]["mcp-sod/receipt"]
        person = Person(**{"who": "vera", "groups": ["analysts"], **row.collector})
        through = row.collects_at or row.at
        if way == "the console" and through != row.at:
            return  # it belongs to no upstream
        for said in (row.says, row.says or "collected already"):
            answer = await collected(chain, person, way, through, receipt)
            assert (PAYLOAD in answer) is (said is None)
            assert said is None or said in answer


SENDS = {"sender": [{"upstream": "tools", "methods": ["*"], "tools": ["*"]}]}


async def collected(chain: Chain, person: Person, way: str, upstream: str, receipt: str) -> str:
    """What comes of collecting."""
    if way == "a call":
        flow = asked(chain, person, upstream, "sod_collect", {"receipt": receipt})
        assert not await chain.ask(flow)
        return json.dumps(told(flow))
    transport = httpx.ASGITransport(build(chain.house))
    async with httpx.AsyncClient(transport=transport, base_url="http://console") as console:
        headers = {"authorization": f"Bearer {person.token(chain.house)}"}
        return (await console.post(f"/api/v1/deliveries/{receipt}/collect", headers=headers)).text
