"""The truth tables of static and dynamic separation, through a real gateway and its console."""

import re
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

import httpx
import pytest
import yaml
from pydantic import Field

from tests.unit.cases import Case, Part, rows, tables
from tests.world.client import LEGACY, call_body, call_headers, raw_http
from tests.world.identities import filled
from tests.world.issuer import AUDIENCE, Issuer
from tests.world.scene import GOOD, Scene, passed

TABLES = tables("separation_of_people")
TICKET = re.compile(r"t-[0-9a-f]{12}")


# static


class Holder(Case):
    """Who sends what, and the words of the refusal, if it is one."""

    groups: list[str]
    machine: bool = False
    method: str = "tools/call"
    status: int = 200
    says: str | None = None


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway with the static rules of the table, before an upstream of which senders may ask everything."""
    duties = dict(TABLES["static"].policy)
    duties["permissions"] = {"prompt-sender": [{"upstream": "tools", "methods": ["*"], "tools": ["*"]}]}
    folder = tmp_path_factory.mktemp("static")
    with Scene(folder, roles={**duties, "delivery": {}, "revocation": {}}, rules={"rules": []}) as scene:
        yield scene


@pytest.mark.parametrize(("_policy", "case"), rows("separation_of_people", Holder, "static"))
def test_nobody_holds_too_much(bank: Scene, _policy: object, case: Holder) -> None:
    """Whoever holds duties that exclude each other is refused everything, with groups, rule and remedy, on record."""
    seen = bank.watch()
    bank.echo.answer(GOOD)
    reply = _sent(bank, case)
    if case.says is None:
        assert (reply.status_code, seen.connections) == (200, 1), reply.text
        assert set(seen.record(event="forwarded")["roles"]) >= {"prompt-sender"}
        return
    assert (reply.status_code, seen.connections) == (case.status, 0), reply.text
    refused = reply.json()
    told = refused["result"]["content"][0]["text"] if case.method == "tools/call" else refused["error"]["message"]
    assert f"Your roles exclude each other {case.says}"[-len(case.says) :] in told
    assert "Your roles exclude each other (" in told
    assert "Have its groups separated, then try again." in told
    assert '"mcp-sod/code":"separation"' in reply.text or refused["error"]["data"]["code"] == "separation"
    record = seen.record(event="denied", code="separation")
    assert case.says in record["reason"]
    assert record["principal"]["subject"] == "ada"


def _sent(bank: Scene, case: Holder) -> httpx.Response:
    token = bank.token(*case.groups, machine=case.machine)
    headers = call_headers("", token, era=LEGACY)
    if case.method in ("GET", "DELETE"):
        accept = {"Accept": "text/event-stream"} if case.method == "GET" else {}
        return bank.http.request(case.method, bank.echo.url, headers=headers | accept)
    message: dict[str, Any] = {"jsonrpc": "2.0", "id": 1, "method": case.method, "params": _PARAMS.get(case.method, {})}
    if case.method.startswith("notifications/"):
        del message["id"]
    return bank.http.post(bank.echo.url, json=message, headers=headers)


_PARAMS: Mapping[str, Mapping[str, Any]] = {
    "tools/call": {"name": "get_customer", "arguments": {}},
    "initialize": {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}},
    "resources/read": {"uri": "file:///a"},
    "prompts/get": {"name": "a"},
}


# dynamic


class Cast(Part):
    """One vote: by whom, and why it is refused. `revoked`: who is revoked before."""

    who: Mapping[str, Any] = Field(default_factory=dict)
    says: Literal["approve", "deny"] = "approve"
    revoked: Mapping[str, str] | None = None
    refused: str | None = None
    status: int = 409
    code: str = "ticket"
    event: str = "denied"


class Ballots(Case):
    """A call that needs approval, the votes on it, and what its ticket becomes."""

    by: Mapping[str, Any] = Field(default_factory=dict)
    tool: str = "pay"
    votes: list[Cast] = Field(min_length=1)
    becomes: Literal["pending", "approved", "denied", "cancelled"]


@dataclass(frozen=True, slots=True)
class Held:
    """A call that waits: its number among the rows, its sender's token, its ticket and digest."""

    number: str
    token: str
    ticket: str
    digest: str


class Court:
    """A gateway that believes two issuers, and holds payments."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self.issuers = {name: Issuer(folder / name, f"https://{name}.example") for name in ("login", "two")}
        self.scene = Scene(
            folder,
            identity={"identity": [_section(issuer) for issuer in self.issuers.values()]},
            roles=DUTIES,
            rules=RULES,
        )
        self.http = self._stack.enter_context(raw_http())

    def __enter__(self) -> Self:
        self._stack.enter_context(self.scene)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def token(self, someone: Mapping[str, Any]) -> str:
        """A token of someone's; a claim of null is none."""
        claims = {name: value for name, value in someone.items() if value is not None}
        return self.issuers[claims.pop("issuer", "login")].token(claims.pop("sub"), **claims)

    def call(self, token: str, tool: str, number: str) -> httpx.Response:
        """The row's call."""
        with raw_http(self.scene.gateway.url) as http:
            body, headers = call_body(tool, {"row": number}), call_headers(tool, token)
            return http.post(self.scene.echo.url, json=body, headers=headers)

    def asked(self, case: Ballots, number: str) -> tuple[str, str, str]:
        """A call that is held now: its number, its sender's token, and its ticket."""
        token = self.token(filled({**TABLES["votes"].policy["by"], **case.by}, {"n": number}))
        reply = self.call(token, case.tool, number)
        assert "needs approval and waits as ticket" in reply.text, reply.text
        return number, token, TICKET.findall(reply.text)[0]

    def console(self, method: str, path: str, token: str, body: Any = None) -> httpx.Response:
        """What the console answers."""
        url = f"{self.scene.gateway.console_url}/api/v1/{path}"
        return self.http.request(method, url, headers={"Authorization": f"Bearer {token}"}, json=body)

    def state(self, ticket: str) -> str:
        """What a ticket is now, as an approver sees it who has nothing to do with it."""
        zoe = {"sub": "zoe", "email": "zoe@people.example", "groups": ["mcp-approvers"]}
        return str(self.console("GET", f"tickets/{ticket}", self.token(zoe)).json()["state"])

    def revoke(self, order: Mapping[str, str]) -> None:
        """Revoke by command."""
        officer = {"sub": "olaf", "email": "olaf@people.example", "groups": ["security-officers"]}
        assert self.console("POST", "revocations", self.token(officer), dict(order)).status_code == 200


def _section(issuer: Issuer) -> dict[str, Any]:
    return {
        "issuer": issuer.url,
        "audience": [AUDIENCE],
        "keys": {"file": str(issuer.jwks_file)},
        "claims": {"person": ["email?", "employee_id?"], "actors": ["act.sub", "actor"]},
        "machine": {"claim": "gty", "equals": "client-credentials"},
        "owners": {name: ["olga@people.example"] for name in ("agent-7", "cli")},
    }


RULES: dict[str, Any] = {
    "rules": [
        {"id": "pay", "where": {"tools": ["pay*"]}, "action": "hold"},
        {"id": "much", "where": {"tools": ["pay_much"]}, "action": "hold", "approval": {"votes": 2}},
        {"id": "abroad", "where": {"tools": ["pay_abroad"]}, "action": "hold", "approval": {"role": "banker"}},
    ]
}
DUTIES: dict[str, Any] = {
    "roles": {
        "prompt-sender": {"groups": ["mcp-users"]},
        "approver": {"groups": ["mcp-approvers"], "humans": True},
        "banker": {"groups": ["bankers"]},
        "auditor": {"groups": ["auditors"]},
        "revoker": {"groups": ["security-officers"], "humans": True},
        "raw-viewer": {"groups": ["stewards"]},
    },
    "permissions": {"prompt-sender": [{"upstream": "tools", "methods": ["*"], "tools": ["*"]}]},
    "separation": {"static": [["prompt-sender", "approver"], ["approver", "auditor"]]},
    "delivery": {},
    "revocation": {"role": "revoker"},
}


@pytest.fixture(scope="module")
def court(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Court]:
    """The gateway of all votes."""
    with Court(tmp_path_factory.mktemp("dynamic")) as running:
        yield running


@pytest.fixture(scope="module")
def held(court: Court) -> Mapping[str, Held]:
    """The calls of all rows, each held as its row says, at once: one after the other they would take a minute."""
    cases = [Ballots.model_validate(row) for row in TABLES["votes"].cases]
    with ThreadPoolExecutor(len(cases)) as callers:
        asked = list(callers.map(court.asked, cases, [f"r{number}" for number in range(len(cases))]))
    digests = {record["ticket"]: record["digest"] for record in court.scene.trail.read() if record["event"] == "held"}
    return {
        case.name: Held(number, token, ticket, digests[ticket])
        for case, (number, token, ticket) in zip(cases, asked, strict=True)
    }


@pytest.mark.parametrize(("policy", "case"), rows("separation_of_people", Ballots, "votes"))
def test_nobody_approves_what_they_stand_behind(
    court: Court, held: Mapping[str, Held], policy: Mapping[str, Any], case: Ballots
) -> None:
    """Each vote is taken, or refused with the reason and on record; only what others approved reaches the upstream."""
    call = held[case.name]
    assert court.state(call.ticket) == "pending"
    for cast in case.votes:
        if cast.revoked is not None:
            court.revoke(filled(dict(cast.revoked), {"n": call.number}))
            if case.becomes == "cancelled":
                _wait_until_cancelled(court, call)
        _vote(court, call, cast, filled({**policy["voter"], **cast.who}, {"n": call.number}))
    assert court.state(call.ticket) == case.becomes
    if case.becomes == "approved":
        seen = court.scene.watch()
        assert passed(court.call(call.token, case.tool, call.number))
        assert seen.connections == 1
        assert seen.record(event="granted")["ticket"] == call.ticket
        assert "is used already" in court.console("POST", *_cast(call, court.token(ZOE))).text


ZOE: Mapping[str, Any] = {"sub": "zoe", "email": "zoe@people.example", "groups": ["mcp-approvers"]}


def _vote(court: Court, call: Held, cast: Cast, voter: Mapping[str, Any]) -> None:
    seen, token = court.scene.watch(), court.token(voter)
    reply = court.console("POST", *_cast(call, token, cast.says))
    assert seen.connections == 0
    if cast.refused is None:
        assert reply.status_code == 200, reply.text
        record = seen.record(event="voted", ticket=call.ticket, decision=cast.says)
        assert record["principal"]["subject"] == voter["sub"]
        return
    assert (reply.status_code, reply.json()["code"]) == (cast.status, cast.code), reply.text
    assert cast.refused in reply.json()["error"]
    record = seen.record(event=cast.event, code=cast.code)
    assert cast.refused in record["reason"]
    if cast.code == "ticket":
        assert (record["method"], record["ticket"], record["digest"]) == ("vote", call.ticket, call.digest)
        assert record["principal"]["subject"] == voter["sub"]
    assert "voted" not in seen.events()


def _cast(call: Held, token: str, decision: str = "approve") -> tuple[str, str, dict[str, str]]:
    return f"tickets/{call.ticket}/votes", token, {"decision": decision, "digest": call.digest}


def _wait_until_cancelled(court: Court, call: Held) -> None:
    deadline = time.monotonic() + 5
    while court.state(call.ticket) != "cancelled" and time.monotonic() < deadline:
        time.sleep(0.02)


# what someone may have written themselves


@pytest.mark.parametrize("edited", ["roles", "rules", "a comment"])
def test_nobody_approves_what_was_edited_since(tmp_path: Path, edited: str) -> None:
    """Any change of the policy voids the tickets opened before: who edited it approves nothing with it."""
    files: Mapping[str, Any] = {
        "roles": {**DUTIES, "roles": {**DUTIES["roles"], "approver": {"groups": ["mcp-approvers", "editors"]}}},
        "rules": {"rules": RULES["rules"][:1]},
        "a comment": None,
    }
    case = Ballots(name="a payment", votes=[Cast()], becomes="pending")
    with Court(tmp_path) as court:
        number, token, ticket = court.asked(case, "r1")
        before = court.scene.trail.wait_for(event="held", ticket=ticket)
        seen = court.scene.watch()
        name = "rules" if edited == "a comment" else edited
        comment = f"# nothing else\n{yaml.safe_dump(RULES)}"
        court.scene.gateway.write_policy({f"{name}.yaml": comment if files[edited] is None else files[edited]})
        seen.record(event="policy changed")
        call = Held(number, token, ticket, before["digest"])
        reply = court.console("POST", *_cast(call, court.token(ZOE)))
        assert (reply.status_code, reply.json()["code"]) == (409, "ticket")
        assert "policy has changed since this ticket was opened" in reply.json()["error"]
        assert reply.json()["hint"] == "The call must be sent again."
        record = seen.record(event="denied", code="ticket", method="vote")
        assert (record["ticket"], record["policy"] == before["policy"]) == (ticket, False)
        again = TICKET.findall(court.call(token, "pay", "r1").text)[0]
        assert again != ticket
        digest = court.scene.trail.wait_for(event="held", ticket=again)["digest"]
        assert court.console("POST", *_cast(Held(number, token, again, digest), court.token(ZOE))).status_code == 200
        assert passed(court.call(token, "pay", "r1"))
