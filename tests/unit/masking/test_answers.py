"""The reply of an MCP server, bound to whoever gets it."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.errors import Ended
from mcp_sod.masking.answers import Answer
from mcp_sod.masking.masks import masks_for
from mcp_sod.masking.reply import Stream
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.conversation import Conversations
from mcp_sod.wire.headers import STATELESS_SINCE
from mcp_sod.wire.mcp import Call, read_bodyless
from mcp_sod.wire.sse import Event, Events

from tests.unit.making import call_of, exchange_of, policy_of, principal_of, standing_of

SECRET = "AKIAABCDEFGHIJKLMNOP"  # noqa: S105 (made up)
SECTIONS: Mapping[str, Any] = {
    "upstreams": {
        "tools": {"url": "http://old.example/v1/sse", "speaks": "mcp-sse"},
        "modern": {"url": "http://old.example/mcp", "speaks": "mcp"},
    },
    "masking": [{"id": "secret", "regex": "AKIA[A-Z]{16}"}],
}


@pytest.fixture(scope="module")
def policy(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    """A policy with a server of the older transport."""
    return policy_of(tmp_path_factory.mktemp("policy"), **SECTIONS)


class Talk:
    """One principal's streams and calls, in one session."""

    def __init__(self, policy: Policy, session: str = "s") -> None:
        self.policy = policy
        self.talks = Conversations()
        self.standing = standing_of(principal_of(), session, self.talks)
        self.ended: Ended | None = None

    def says(self, call: Call, *events: str | Event, hidden: str = "") -> list[Event]:
        """The events that the principal gets when the server sends these in reply to this call."""
        exchange = exchange_of(self.policy, call)
        exchange.standing = self.standing
        exchange.visible_tool = lambda name: name != hidden
        masks = masks_for(self.policy, frozenset())
        stream = Stream(Answer(exchange, masks, masks), "x-1", 10_000, lambda: self.ended)
        sent = b"".join((Event(one) if isinstance(one, str) else one).encode() for one in events)
        heard = b"".join([*stream(sent), *stream.aside()])
        return [event for event in Events(10_000).feed(heard) if event]


def opened() -> Call:
    """A GET stream."""
    return read_bodyless({}, "GET", b"")


def is_refusal(event: Event) -> bool:
    """Whether this is the gateway's own last word."""
    return "x-1" in (event.data or "")


def test_event_ids_are_the_sessions(policy: Policy) -> None:
    """An id comes back with a tag that is good in this session alone; an event without id has none."""
    talk = Talk(policy)
    note = '{"jsonrpc":"2.0","method":"notifications/message","params":{}}'
    first, second, empty = talk.says(opened(), Event(note, "7"), note, Event("", "8"))
    assert talk.standing.owner.own("event", first.event_id or "", "s") == "7"
    assert second.event_id is None
    assert talk.standing.owner.own("event", empty.event_id or "", "s") == "8"


def test_a_late_list_is_filtered_and_masked(policy: Policy) -> None:
    """A list that comes on a stream shows what the one that comes in a reply shows."""
    talk = Talk(policy)
    tools = [{"name": "a", "description": SECRET}, {"name": "b"}]
    (event,) = talk.says(opened(), json.dumps({"jsonrpc": "2.0", "id": 4, "result": {"tools": tools}}), hidden="b")
    assert json.loads(event.data or "")["result"] == {"tools": [{"name": "a", "description": "[masked:secret]"}]}
    (event,) = Talk(policy, "").says(opened(), json.dumps({"jsonrpc": "2.0", "id": 4, "result": {"tools": tools}}))
    assert is_refusal(event)


def test_a_servers_question_is_masked_and_remembered(policy: Policy) -> None:
    """What the server asks a client passes the masks, and its answer is expected in this session alone."""
    talk = Talk(policy)
    question = {"jsonrpc": "2.0", "id": "q", "method": "sampling/createMessage", "params": {"systemPrompt": SECRET}}
    (event,) = talk.says(call_of("tools/call", {"name": "t"}), json.dumps(question))
    assert SECRET not in (event.data or "")
    assert talk.standing.conversation.owed("q") == "sampling/createMessage"
    assert talk.standing.talk("other").owed("q") is None


def test_a_request_state_comes_back_only_from_its_owner(policy: Policy) -> None:
    """The state of an unfinished call is tagged, and what it asks is masked."""
    talk = Talk(policy)
    result = {"resultType": "input_required", "requestState": "st", "inputRequests": {"a": {"message": SECRET}}}
    call = call_of("tools/call", {"name": "t"}, headers={"mcp-protocol-version": STATELESS_SINCE})
    (event,) = talk.says(call, json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}))
    got = json.loads(event.data or "")["result"]
    assert talk.standing.owner.own("state", got["requestState"]) == "st"
    assert got["inputRequests"] == {"a": {"message": "[masked:secret]"}}


def test_a_state_that_is_a_secret_is_withheld(policy: Policy) -> None:
    """What a client needs as it is cannot be masked: neither a state nor a task's id."""
    for result in ({"requestState": SECRET}, {"task": {"taskId": SECRET}}):
        answer = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result})
        (event,) = Talk(policy).says(call_of("tools/call", {"name": "t"}), answer)
        assert is_refusal(event)
        assert SECRET not in (event.data or "")


@pytest.mark.parametrize(
    "given",
    ["/messages?session_id=1", "http://old.example/messages?session_id=1", "http://old.example:80/messages?session_id=1",
     "../messages?session_id=1"],
)  # fmt: skip
def test_an_endpoint_becomes_its_owners(policy: Policy, given: str) -> None:
    """However the server writes it, the client gets a path on this origin that only it may use."""
    talk = Talk(policy, "")
    (event,) = talk.says(opened(), Event(given, kind="endpoint"))
    assert event.kind == "endpoint"
    assert talk.standing.owner.own("endpoint", event.data or "") == "/messages?session_id=1"


@pytest.mark.parametrize(
    "given",
    ["https://old.example/messages", "http://elsewhere.example/messages", "//elsewhere.example/x", "http://old.example:81/x",
     "https://old.example:80/x", "/mcp", "/mcp/", "/mcp?x=1", "/v1/sse",
     "/messages?key=AKIAABCDEFGHIJKLMNOP", "/a b", "/\u00e9", "http://[::1/x", "javascript:alert(1)"],
)  # fmt: skip
def test_an_endpoint_elsewhere_is_withheld(policy: Policy, given: str) -> None:
    """A server cannot send a client, with its token, somewhere else."""
    (event,) = Talk(policy, "").says(opened(), Event(given, kind="endpoint"))
    assert is_refusal(event)


def test_an_endpoint_is_given_once_and_only_by_the_older_transport(policy: Policy, tmp_path: Path) -> None:
    """A second one, one in a call's reply, and one of a server that speaks streamable HTTP end the stream."""
    endpoint = Event("/messages", kind="endpoint")
    first, second = Talk(policy, "").says(opened(), endpoint, endpoint)
    assert (is_refusal(first), is_refusal(second)) == (False, True)
    (event,) = Talk(policy, "").says(call_of("ping"), endpoint)
    assert is_refusal(event)
    modern = policy_of(tmp_path, upstreams={"tools": {"url": "http://old.example/v1/sse", "speaks": "mcp"}})
    (event,) = Talk(modern, "").says(opened(), endpoint)
    assert is_refusal(event)


def test_what_the_older_transport_answers_belongs_to_its_endpoint(policy: Policy) -> None:
    """Answers come on the stream, to requests that were posted to the endpoint that it gave."""
    talk = Talk(policy, "")
    answer = '{"jsonrpc":"2.0","id":1,"result":{}}'
    endpoint, event = talk.says(opened(), Event("/messages", kind="endpoint"), answer)
    assert (endpoint.kind, event.data) == ("endpoint", answer)
    (event,) = talk.says(opened(), answer)
    assert is_refusal(event)


def test_the_gateways_own_words_are_said_once(policy: Policy) -> None:
    """A refusal for a client that listens nowhere else comes on its stream."""
    talk = Talk(policy, "")
    talk.standing.talk("/messages").words.append(b'{"refused":1}')
    note = '{"jsonrpc":"2.0","method":"notifications/message"}'
    heard = [event.data for event in talk.says(opened(), Event("/messages", kind="endpoint"), note)]
    assert heard[1:] == [note, '{"refused":1}']
    heard = [event.data for event in talk.says(opened(), Event("/messages", kind="endpoint"), note)]
    assert heard[1:] == [note]


def test_a_stream_that_has_ended_says_nothing_more(policy: Policy) -> None:
    """Once its caller's token or its policy is over, nothing of what the server says is delivered."""
    talk = Talk(policy)
    note = '{"jsonrpc":"2.0","method":"notifications/message"}'
    assert len(talk.says(opened(), note)) == 1
    talk.ended = Ended("The policy has changed.")
    assert talk.says(opened(), note) == []
