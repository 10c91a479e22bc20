"""The chain and the gate, stage by stage, on real parts but without mitmdump around them."""

import dataclasses
import json
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, cast

import pytest
from mcp_sod.approval.voting import Ballot, Voter
from mcp_sod.chain import KEPT_ADDONS, policy_folder, stages
from mcp_sod.gate import Gate, request_digest, response_digest
from mcp_sod.runtime import Runtime
from mcp_sod.stage import Stage
from mitmproxy import http
from mitmproxy.connection import ConnectionState
from mitmproxy.test import tflow

from tests.unit.house import SECRET, House, house
from tests.unit.making import body_of, principal_of
from tests.world.policies import DEFAULT

REPLY = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"text": SECRET}}).encode()
MASKED = REPLY.replace(SECRET.encode(), b"[masked:secret]")


class Chain:
    """A gate with its stages, and flows led through them as mitmproxy would."""

    def __init__(self, house: House) -> None:
        self.house = house
        self.gate = Gate(house, settled=lambda: None)
        self.stages = stages(self.gate, cast("Runtime", house))

    def flow(self, groups: tuple[str, ...] = ("users",), tool: str = "query", **arguments: Any) -> http.HTTPFlow:
        """A POST of a tools/call, with a good token."""
        flow = tflow.tflow()
        body = body_of("tools/call", {"name": tool, "arguments": arguments})
        token = self.house.token("alice", *groups)
        headers: dict[str | bytes, str | bytes] = {
            "host": "127.0.0.1:9000",
            "content-type": "application/json",
            "authorization": f"Bearer {token}",
            "cookie": "c",
        }
        flow.request = http.Request.make("POST", "http://127.0.0.1:9000/mcp", body, headers)
        return flow

    async def ask(self, flow: http.HTTPFlow, without: str = "", last: Callable[[http.HTTPFlow], object] = repr) -> bool:
        """Leads a request through; `last` happens just before the gate; True if it leaves."""
        self.gate.requestheaders(flow)
        for stage in self.stages:
            if stage.name != without and hasattr(stage, "request"):
                await stage.request(flow)
        last(flow)
        await self.gate.request(flow)
        return flow.response is None

    async def answer(
        self,
        flow: http.HTTPFlow,
        body: bytes = REPLY,
        without: str = "",
        last: Callable[[http.HTTPFlow], object] = repr,
        headers: Mapping[str, str] = MappingProxyType({}),
    ) -> bytes:
        """Leads a whole reply through; what the client gets."""
        flow.response = http.Response.make(200, body, {"content-type": "application/json", **headers})
        for hook in ("responseheaders", "response"):
            for stage in self.stages:
                if stage.name != without and hasattr(stage, hook):
                    await getattr(stage, hook)(flow)
            if hook == "responseheaders":
                self.gate.responseheaders(flow)
        last(flow)
        await self.gate.response(flow)
        assert flow.response is not None
        return flow.response.raw_content or b""


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    """A chain of its own for each test."""
    async with house(tmp_path) as built:
        yield Chain(built)


async def test_a_call_goes_through_and_its_reply_comes_back_masked(chain: Chain) -> None:
    """The control beside all that is refused below: the call leaves, the reply is masked, both are on record."""
    flow = chain.flow(sql="select 1")
    assert await chain.ask(flow)
    assert await chain.answer(flow) == MASKED
    assert chain.house.journal.events == ["forwarded", "replied"]


async def test_credentials_do_not_leave(chain: Chain) -> None:
    """Neither the caller's token nor unknown headers go upstream; the reply's unknown headers do not come back."""
    flow = chain.flow()
    token = flow.request.headers["authorization"].removeprefix("Bearer ")
    assert await chain.ask(flow)
    assert "cookie" not in flow.request.headers
    assert token not in str(flow.request.headers.fields)
    assert token not in json.dumps(chain.house.journal.records)
    await chain.answer(flow, headers={"x-debug": SECRET, "set-cookie": "a", "mcp-session-id": "s"})
    assert flow.response
    assert sorted(flow.response.headers) == ["content-length", "content-type"]


NEEDED = {  # what each stage cannot do without; `sod-metadata` decides about no call
    "sod-intake": "admit",
    "sod-identity": "_verifier",
    "sod-sessions": "stand",
    "sod-masking": "_inspect",
    "sod-roles": "roles_of",
    "sod-recipient": "recipient",
    "sod-separation": "_memory",
    "sod-risk": "findings",
    "sod-approval": "_desk",
    "sod-claims": "_memory",
    "sod-delivery": "poses_as_collecting",
    "sod-audit": "_journal",
    "sod-release": "own_headers",
}


@pytest.mark.parametrize("without", NEEDED)
async def test_a_stage_that_is_skipped_refuses(chain: Chain, without: str) -> None:
    """Whichever stage is not asked, the call does not leave."""
    assert not await chain.ask(chain.flow(), without=without)
    assert chain.house.journal.events[-1] in ("denied", "rejected")
    assert await chain.ask(chain.flow())


@pytest.mark.parametrize("broken", NEEDED)
async def test_a_stage_that_fails_refuses(chain: Chain, broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever a stage stumbles over, the call does not leave, and the refusal is on record."""
    flow = chain.flow()
    stage: object = next(stage for stage in chain.stages if stage.name == broken)
    needed = NEEDED[broken]
    if broken == "sod-approval":  # only a held call needs the desk
        flow = chain.flow(sql=SECRET)
    if needed == "_memory":  # only what a duty concerns is looked up
        flow = chain.flow(tool="pay", id=7)
    monkeypatch.setattr(stage if hasattr(stage, needed) else sys.modules[type(stage).__module__], needed, None)
    assert not await chain.ask(flow)
    assert chain.house.journal.records[-1]["code"] == "unavailable"


async def test_metadata_that_fail_refuse(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stage that decides about no call still lets none through when it fails; the control is the same call."""
    flow = chain.flow()
    monkeypatch.setattr("mcp_sod.identity.addon.metadata", None)
    assert not await chain.ask(flow)
    assert chain.house.journal.records[-1]["code"] == "unavailable"
    monkeypatch.undo()
    assert await chain.ask(chain.flow())


CHANGES: dict[str, Callable[[http.HTTPFlow], object]] = {
    "body": lambda flow: setattr(flow.request, "raw_content", b"{}"),
    "one byte": lambda flow: setattr(flow.request, "raw_content", (flow.request.raw_content or b"") + b" "),
    "host": lambda flow: setattr(flow.request, "host", "evil.example"),
    "port": lambda flow: setattr(flow.request, "port", 9001),
    "path": lambda flow: setattr(flow.request, "path", "/admin"),
    "scheme": lambda flow: setattr(flow.request, "scheme", "https"),
    "method": lambda flow: setattr(flow.request, "method", "PUT"),
    "a header more": lambda flow: flow.request.headers.update({"x": "y"}),
    "a header's case": lambda flow: setattr(
        flow.request.headers, "fields", tuple((n.title(), v) for n, v in flow.request.headers.fields)
    ),
    "trailers": lambda flow: setattr(flow.request, "trailers", http.Headers([(b"x", b"y")])),
    "replay": lambda flow: setattr(flow, "is_replay", "request"),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
async def test_what_leaves_is_what_was_released(chain: Chain, change: Callable[[http.HTTPFlow], object]) -> None:
    """Anything about a request that changes after its release keeps it from leaving."""
    assert not await chain.ask(chain.flow(), last=change)
    assert await chain.ask(chain.flow())


REPLY_CHANGES: dict[str, Callable[[http.HTTPFlow], object]] = {
    "body": lambda flow: setattr(flow.response, "raw_content", REPLY),
    "status": lambda flow: setattr(flow.response, "status_code", 201),
    "reason": lambda flow: setattr(flow.response, "reason", SECRET),
    "header": lambda flow: flow.response and flow.response.headers.update({"x": SECRET}),
    "another reply": lambda flow: setattr(flow, "response", http.Response.make(200, REPLY)),
}


@pytest.mark.parametrize("change", REPLY_CHANGES.values(), ids=REPLY_CHANGES.keys())
async def test_what_is_delivered_is_what_was_sealed(chain: Chain, change: Callable[[http.HTTPFlow], object]) -> None:
    """Anything about a reply that changes after it was masked keeps it from being delivered."""
    flow = chain.flow()
    assert await chain.ask(flow)
    assert SECRET.encode() not in await chain.answer(flow, last=change)
    assert flow.response
    assert flow.response.status_code != 201
    assert SECRET not in str(flow.response.headers.fields)
    assert chain.house.journal.events[-1] == "withheld"


@pytest.mark.parametrize("without", ["sod-intake", "sod-sessions", "sod-masking", "sod-audit"])
async def test_a_stage_that_is_skipped_withholds(chain: Chain, without: str) -> None:
    """Whichever stage does not see the reply, it is not delivered."""
    flow = chain.flow()
    assert await chain.ask(flow)
    out = await chain.answer(flow, without=without)
    assert SECRET.encode() not in out
    assert MASKED not in out


async def test_a_stream_goes_only_through_its_masks(chain: Chain) -> None:
    """Events are streamed through the sealed function; with another, or another head, nothing is streamed."""
    flow = chain.flow()
    assert await chain.ask(flow)
    flow.response = http.Response.make(200, b"", {"content-type": "text/event-stream"})
    for stage in chain.stages:
        if hasattr(stage, "responseheaders"):
            await stage.responseheaders(flow)
    chain.gate.responseheaders(flow)
    stream = cast("Callable[[bytes], list[bytes]]", flow.response.stream)
    assert SECRET.encode() not in b"".join(stream(b"data: " + REPLY + b"\n\n"))
    flow.response.headers["x"] = "y"
    chain.gate.responseheaders(flow)
    assert flow.response.stream is False


@pytest.mark.parametrize("stream", [True, lambda chunk: chunk], ids=["raw", "by another function"])
async def test_a_reply_is_not_streamed_raw(chain: Chain, stream: Any) -> None:
    """If anything sets a reply to be streamed otherwise, it is read whole, and masked."""
    flow = chain.flow()
    assert await chain.ask(flow)
    flow.response = http.Response.make(200, b"", {"content-type": "application/json"})
    flow.response.stream = stream
    chain.gate.responseheaders(flow)
    assert flow.response.stream is False


@pytest.mark.parametrize(
    ("groups", "tool", "text", "code"),
    [
        ((), "query", "x", "denied"),
        (("users", "approvers"), "query", "x", "separation"),
        (("users",), "drop", "x", "denied"),
        (("users",), "query", "never ever", "denied"),
        (("users",), "query", SECRET, "held"),
    ],
)
async def test_refusals_are_answered_and_recorded(
    chain: Chain, groups: tuple[str, ...], tool: str, text: str, code: str
) -> None:
    """A refused call is answered in its own shape, with reference and code, and is on record, masked."""
    flow = chain.flow(groups, tool, text=text)
    assert not await chain.ask(flow)
    assert flow.response
    answer = json.loads(flow.response.raw_content or b"")
    assert flow.response.status_code == 200
    assert answer["result"]["isError"] is True
    record = chain.house.journal.records[-1]
    assert answer["result"]["_meta"]["mcp-sod/code"] == record["code"] == code
    assert answer["result"]["_meta"]["mcp-sod/reference"] == record["ref"]
    assert SECRET not in json.dumps(chain.house.journal.records)


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"pad": "x" * 60_000}, "held"),
        ({"pad": "x" * 70_000}, "denied"),
        ({SECRET: 1}, "denied"),
        ({"z": {"type": "image", "data": ""}}, "denied"),
        ({"z": {"type": "text", "data": ""}}, "held"),
        ({"z": "drop AK\u200bIAABCDEFGHIJKLMNOP"}, "denied"),
    ],
    ids=["as much as can be shown", "more than can be shown", "a secret as a name", "an image", "none", "in disguise"],
)
async def test_what_an_approver_cannot_see_is_not_held(chain: Chain, more: dict[str, Any], code: str) -> None:
    """A vote binds the whole call, so a risky call that cannot be shown whole is refused, not offered."""
    flow = chain.flow(sql=SECRET, **more)
    assert not await chain.ask(flow)
    assert chain.house.journal.records[-1]["code"] == code
    assert len(await chain.house.desk.newest("pending", 2)) == (code == "held")


async def test_nobody_keeps_a_call_from_the_record(chain: Chain) -> None:
    """Of what cannot be masked the record has a digest, of all else in the call what it says."""
    flow = chain.flow(iban="DE00", z={"type": "image", "data": "/9j/"})
    assert await chain.ask(flow)
    said = chain.house.journal.records[-1]["request"]
    assert '"iban": "DE00"' in said
    assert "[not shown: binary, sha256:" in said
    assert "/9j/" not in said


async def test_approvers_see_what_goes_upstream_beside_the_body(chain: Chain) -> None:
    """What an Mcp-Param header says stands among the arguments that approvers see, or the call is refused."""
    for region, held in ((f"prod {SECRET}", True), ("elsewhere", False)):
        flow = chain.flow(sql=f"prod {SECRET}")
        flow.request.headers["mcp-param-region"] = region
        assert not await chain.ask(flow)
        assert chain.house.journal.records[-1]["code"] == ("held" if held else "header-mismatch")
    (ticket,) = await chain.house.desk.newest("pending", 2)
    assert "prod [masked:secret]" in ticket.shown


@pytest.mark.parametrize(("expires", "code"), [(2**40, "held"), (1, "denied")])
async def test_a_token_must_outlive_the_wait(chain: Chain, expires: int, code: str) -> None:
    """A call whose token expired while it waited does not go on, whatever became of its ticket."""
    flow = chain.flow(sql=SECRET)
    identity: Any = next(stage for stage in chain.stages if stage.name == "sod-identity")
    known = identity.request

    async def late(flow: http.HTTPFlow) -> None:
        await known(flow)
        exchange = chain.gate.exchange(flow)
        assert exchange.principal
        exchange.principal = dataclasses.replace(exchange.principal, expires=expires)

    identity.request = late
    assert not await chain.ask(flow)
    assert chain.house.journal.records[-1]["code"] == code


async def voted(chain: Chain, flow: http.HTTPFlow, decision: Literal["approve", "deny"]) -> None:
    """Holds the call until its patience ends, then has bob vote on its ticket."""
    assert not await chain.ask(flow)
    (ticket,) = await chain.house.desk.newest("pending", 2)
    bob = Voter(principal_of("bob"), frozenset({"approver"}), chain.house.policy.digest)
    await chain.house.desk.vote(ticket.id, bob, Ballot(decision, ticket.digest, ""))


async def test_an_approved_call_goes_through_once(chain: Chain) -> None:
    """After the yes the same call goes through, once; another call, or another person's, does not."""
    await voted(chain, chain.flow(sql=SECRET), "approve")
    assert not await chain.ask(chain.flow(sql=SECRET, more=1))
    assert await chain.ask(chain.flow(sql=SECRET))
    assert not await chain.ask(chain.flow(sql=SECRET))
    assert chain.house.journal.events.count("granted") == 1


async def test_a_denied_call_is_denied_again(chain: Chain) -> None:
    """After the no the same call is refused at once, with the ticket's name."""
    await voted(chain, chain.flow(sql=SECRET), "deny")
    again = chain.flow(sql=SECRET)
    assert not await chain.ask(again)
    assert again.response
    assert b"An approver said no" in (again.response.raw_content or b"")


async def test_a_caller_who_has_left_keeps_its_grant(chain: Chain) -> None:
    """A grant is not used up for a connection that is gone: it waits for the caller's return."""
    await voted(chain, chain.flow(sql=SECRET), "approve")
    gone = chain.flow(sql=SECRET)
    gone.client_conn.state = ConnectionState.CLOSED
    assert not await chain.ask(gone)
    assert await chain.ask(chain.flow(sql=SECRET))


async def test_a_notification_is_not_held(chain: Chain) -> None:
    """What is risky and waits for no answer is refused, with an HTTP status; a harmless one goes through."""
    for text, leaves in ((SECRET, False), ("x", True)):
        flow = chain.flow()
        flow.request.raw_content = body_of("notifications/cancelled", {"reason": text}, request_id=None)
        assert await chain.ask(flow) is leaves
        assert flow.response is None or flow.response.status_code == 403


async def test_a_list_is_cut_to_its_reader(chain: Chain) -> None:
    """A tools/list comes back without the tools that its reader may not call."""
    flow = chain.flow()
    flow.request.raw_content = body_of("tools/list")
    assert await chain.ask(flow)
    whole = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"tools": [{"name": "query"}, {"name": "drop"}]}})
    result = json.loads(await chain.answer(flow, whole.encode()))["result"]
    assert [tool["name"] for tool in result["tools"]] == ["query"]


async def test_a_flow_that_skipped_the_door_does_not_leave(chain: Chain) -> None:
    """A request that the gate meets only at its end, as a replay would be, is refused."""
    flow = chain.flow()
    await chain.gate.request(flow)
    assert flow.response
    assert flow.response.status_code == 503


async def test_without_a_runtime_everything_is_refused() -> None:
    """A gateway that could not start refuses requests, tunnels and connections."""
    gate, flow = Gate(None, lambda: None), tflow.tflow()
    gate.requestheaders(flow)
    await gate.request(flow)
    assert flow.response
    assert flow.response.status_code == 503
    gate.http_connect(connect := tflow.tflow())
    assert connect.response
    assert connect.response.status_code == 403


async def test_a_broken_journal_refuses(chain: Chain) -> None:
    """When no record can be written the call is refused; it goes through again once records can."""
    chain.house.journal.broken = True
    flow = chain.flow()
    assert not await chain.ask(flow)
    chain.house.journal.broken = False
    flow = chain.flow()
    assert await chain.ask(flow)
    chain.house.journal.broken = True
    assert MASKED not in await chain.answer(flow)


async def test_an_unreachable_store_refuses_where_the_policy_says_so(chain: Chain) -> None:
    """While records cannot reach the store, calls are refused; why is on record, and no business of the caller's."""
    chain.house.trouble = "the bucket is gone"
    flow = chain.flow()
    assert not await chain.ask(flow)
    assert flow.response
    assert b"The audit store takes no records" in (flow.response.raw_content or b"")
    assert b"bucket" not in (flow.response.raw_content or b"")
    assert "the bucket is gone" in str(chain.house.journal.records[-1]["reason"])
    chain.house.trouble = None
    assert await chain.ask(chain.flow())


@pytest.mark.parametrize(
    ("host", "port", "status"), [("127.0.0.1", 9000, None), ("127.0.0.1", 22, 403), ("evil.example", 9000, 403)]
)
def test_tunnels_lead_to_upstreams_only(chain: Chain, host: str, port: int, status: int | None) -> None:
    """CONNECT is refused but to a listed address, and so is any connection."""
    flow = tflow.tflow()
    flow.request.host, flow.request.port = host, port
    chain.gate.http_connect(flow)
    assert (flow.response.status_code if flow.response else None) == status
    server = type("Server", (), {"address": (host, port), "error": None, "sni": "chosen.by.the.client"})
    chain.gate.server_connect(cast("Any", type("Data", (), {"server": server})))
    assert (server.error is None) == (status is None)  # type: ignore[attr-defined]
    if status is None:  # the upstream is verified by the policy's name for it, not by the client's
        assert server.sni == host  # type: ignore[attr-defined]


def test_digests_tell_requests_apart() -> None:
    """No two different requests or replies share a digest; the same one has the same."""
    one, other = tflow.tflow().request, tflow.tflow().request
    assert request_digest(one) == request_digest(other)
    other.headers["x"] = ""
    assert request_digest(one) != request_digest(other)
    reply = http.Response.make(200, b"a")
    assert response_digest(reply) == response_digest(http.Response.make(200, b"a"))
    assert response_digest(reply) != response_digest(http.Response.make(200, b"b"))
    assert response_digest(reply, head_only=True) == response_digest(http.Response.make(200, b"c"), head_only=True)


def test_the_default_policy_is_found() -> None:
    """Without the option the policies of the checkout are used; with it, that folder."""
    assert policy_folder("") == DEFAULT
    assert policy_folder("~/p") == Path("~/p").expanduser()
    assert not {"map_remote", "modify_body", "replay", "save", "dumper"} & KEPT_ADDONS


def test_stages_have_names_of_their_own(chain: Chain) -> None:
    """Each stage is a Stage with a name, in the order that the page shows."""
    assert all(isinstance(stage, Stage) for stage in chain.stages)
    assert [stage.name for stage in chain.stages] == ["sod-metadata", *NEEDED]
