"""What a server gives one person is taken from no other: sessions, streams, questions, states, tasks, endpoints.

The servers here, like all that were looked at, take these from whoever shows them. Each refusal stands beside the same
request by the one to whom it belongs.
"""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.world.client import LEGACY
from tests.world.echo import Reply
from tests.world.line import Line, Stream, answer_of, call, request
from tests.world.scene import Scene
from tests.world.talks import Seen, Talks

LIST = request("tools/list", {})
TASK = "io.modelcontextprotocol/related-task"


@pytest.fixture(scope="module")
def talks(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talks]:
    """The talkers behind a gateway."""
    with Talks(tmp_path_factory.mktemp("ownership"), "regular") as running:
        yield running


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A scripted server behind a gateway."""
    with Scene(tmp_path_factory.mktemp("tasks")) as running:
        yield running


@pytest.fixture
def alice(talks: Talks) -> Iterator[Line]:
    """Alice, in a session."""
    with talks.line("alice") as line:
        line.begin()
        yield line


@pytest.fixture
def bob(talks: Talks) -> Iterator[Line]:
    """Bob, in a session of his own."""
    with talks.line("bob") as line:
        line.begin()
        yield line


def sent(line: Line, verb: str) -> httpx.Response:
    """What comes of the simplest request with this verb; of a stream, the head."""
    match verb:
        case "GET":
            with line.open() as stream:
                return head_of(stream)
        case "DELETE":
            return line.delete()
    return line.post(LIST)


def head_of(stream: Stream) -> httpx.Response:
    """The reply that a stream is; a refusal is read whole, while a stream that was opened has no end."""
    if stream.response.status_code != 200:
        stream.response.read()
    return stream.response


def refused(seen: Seen, reply: httpx.Response, code: str, status: int, *, who: str = "bob") -> None:
    """The request was refused for this reason, nothing arrived at a server, and it is on record whose it was."""
    assert reply.status_code == status
    assert code in reply.text
    record = seen.record(code=code)
    assert record["principal"]["subject"] == who
    assert record["event"] in ("rejected", "denied")
    assert seen.arrived == []


def passes(reply: httpx.Response) -> bool:
    """Whether the request went through to a server that took it."""
    return reply.status_code in (200, 202) and not (reply.is_stream_consumed and '"error"' in reply.text)


@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE"])
def test_a_session_is_its_owners(talks: Talks, alice: Line, bob: Line, verb: str) -> None:
    """Whoever knows the id of another's session can neither speak in it, nor listen to it, nor end it."""
    own, bob.session = bob.session, alice.session
    seen = talks.watch()
    refused(seen, sent(bob, verb), "foreign-session", 404)
    bob.session = own
    assert passes(sent(bob, verb))
    assert passes(sent(alice, verb))


@pytest.mark.parametrize("verb", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("who", ["alice", "bob"])
def test_a_session_has_no_other_name(talks: Talks, alice: Line, bob: Line, verb: str, who: str) -> None:
    """The server's own session id, which the gateway does not give out, is of no use to anyone."""
    line = alice if who == "alice" else bob
    given, raw = alice.session["Mcp-Session-Id"], raw_session(talks, alice)
    assert given.startswith(f"{raw}.")
    own, line.session = line.session, alice.session | {"Mcp-Session-Id": raw}
    seen = talks.watch()
    refused(seen, sent(line, verb), "foreign-session", 404, who=who)
    line.session = own
    assert passes(sent(line, verb))


def test_a_tag_does_not_fit_another_session(talks: Talks, alice: Line, bob: Line) -> None:
    """Bob's tag on the id of Alice's session makes it no session of his."""
    _, _, tag = bob.session["Mcp-Session-Id"].rpartition(".")
    own, bob.session = bob.session, alice.session | {"Mcp-Session-Id": f"{raw_session(talks, alice)}.{tag}"}
    seen = talks.watch()
    refused(seen, bob.post(LIST), "foreign-session", 404)
    bob.session = own
    assert passes(bob.post(LIST))


def test_a_session_belongs_to_one_server(talks: Talks, alice: Line) -> None:
    """Alice's session with one server is nothing to another server."""
    with talks.line("alice", upstream="terse") as other:
        other.begin()
        own, other.session = other.session, alice.session
        seen = talks.watch()
        refused(seen, other.post(LIST), "foreign-session", 404, who="alice")
        other.session = own
        assert passes(other.post(LIST))


@pytest.mark.parametrize("claims", [{"azp": "another-client"}, {"act": {"sub": "job-7"}}], ids=["client", "actor"])
def test_a_session_belongs_to_one_client(talks: Talks, alice: Line, claims: dict[str, Any]) -> None:
    """A token of Alice's for another client, or for someone who acts for her, does not open her session."""
    with talks.line("alice", **claims) as other, talks.line("alice", jti="fresh") as renewed:
        other.session = renewed.session = alice.session
        seen = talks.watch()
        refused(seen, other.post(LIST), "foreign-session", 404, who="alice")
        assert passes(renewed.post(LIST))  # another token of the same Alice's


def test_a_session_outlives_the_gateway(talks: Talks, alice: Line, bob: Line) -> None:
    """After a restart a session is still its owner's, and still nobody else's: the key is kept."""
    talks.gateway.restart()
    assert passes(alice.post(LIST))
    bob.session = alice.session
    seen = talks.watch()
    refused(seen, bob.post(LIST), "foreign-session", 404)


def test_an_event_id_is_its_owners(talks: Talks, alice: Line, bob: Line) -> None:
    """With the id of an event from Alice's session, Bob resumes nothing in his own; the server would let him."""
    with alice.open(call("report", id=71, steps=3)) as stream:
        ids = [event.id for event in stream]
    first = ids[0] or ""
    raw, _, _ = first.rpartition(".")
    with talks.straight("bob") as direct:
        direct.begin()
        with direct.open(Last_Event_ID=raw) as stream:
            assert "log 1" in str(next(iter(stream)).message)  # so it is the gateway that keeps it from him
    for event_id in (first, raw):
        seen = talks.watch()
        with bob.open(Last_Event_ID=event_id) as stream:
            refused(seen, head_of(stream), "foreign", 404)
    with alice.open(Last_Event_ID=first) as stream:
        assert "log 1" in str(next(iter(stream)).message)


def test_an_event_id_belongs_to_one_session(talks: Talks, alice: Line) -> None:
    """Not even in another session of her own does Alice resume a stream of this one."""
    with alice.open(call("report", id=72, steps=1)) as stream:
        ids = [event.id for event in stream]
    with talks.line("alice") as other:
        other.begin()
        seen = talks.watch()
        with other.open(Last_Event_ID=ids[0] or "") as stream:
            refused(seen, head_of(stream), "foreign", 404, who="alice")
    with alice.open(Last_Event_ID=ids[0] or "") as stream:
        assert passes(stream.response)


def test_a_question_is_for_who_was_asked(talks: Talks, alice: Line, bob: Line) -> None:
    """Bob cannot answer what the server asks Alice, in neither session; she can, where she was asked, and once."""
    with alice.open(call("ask", id=73)) as stream, talks.line("alice") as elsewhere:
        elsewhere.begin()
        asked = stream.until("elicitation/create").message
        answer = {"jsonrpc": "2.0", "id": asked["id"], "result": {"action": "accept", "content": {"word": "gold"}}}
        seen = talks.watch()
        refused(seen, bob.post(answer), "unasked", 400)
        seen = talks.watch()
        refused(seen, elsewhere.post(answer), "unasked", 400, who="alice")
        own, bob.session = bob.session, alice.session
        refused(seen, bob.post(answer), "foreign-session", 404)
        bob.session = own
        assert alice.post(answer).status_code == 202
        assert "gold" in str(next(iter(stream)).message)
    seen = talks.watch()
    refused(seen, alice.post(answer), "unasked", 400, who="alice")


def test_nobody_cancels_anothers_call(talks: Talks, alice: Line, bob: Line) -> None:
    """Bob's cancellation in Alice's session is refused, and in his own it is about no call of hers."""
    with alice.open(call("wait", id=74, seconds=0.5, mark="uncancelled")) as stream:
        cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 74}}
        assert bob.post(cancel).status_code == 202
        own, bob.session = bob.session, alice.session
        seen = talks.watch()
        refused(seen, bob.post(cancel), "foreign-session", 404)
        bob.session = own
        assert "waited" in str([event.message for event in stream])
    assert "uncancelled finished" in talks.talker.fates()


def test_a_request_state_is_its_owners(talks: Talks) -> None:
    """2026: the state of Alice's call is no state of Bob's, even where the server would take it from him."""
    ask = {"name": "ask", "arguments": {}}
    with talks.line("alice") as alice, talks.line("bob") as bob, talks.straight("bob") as direct:
        asked = answer_of(alice.modern("tools/call", ask))["result"]
        answers = {key: {"action": "accept", "content": {"word": "gold"}} for key in asked["inputRequests"]}
        raw, _, _ = asked["requestState"].rpartition(".")
        assert "gold" in direct.modern("tools/call", ask | {"inputResponses": answers, "requestState": raw}).text
        for state in (asked["requestState"], raw):
            seen = talks.watch()
            reply = bob.modern("tools/call", ask | {"inputResponses": answers, "requestState": state})
            refused(seen, reply, "foreign", 200)
            assert answer_of(reply)["error"]["code"] == -31404
        mine = ask | {"inputResponses": answers, "requestState": asked["requestState"]}
        assert "gold" in alice.modern("tools/call", mine).text


def test_an_endpoint_is_its_owners(talks: Talks) -> None:
    """2024-11-05: Bob cannot speak at the endpoint that the server gave Alice, with its tag or without."""
    hello = request(
        "initialize",
        {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}},
    )
    with (
        talks.line("alice", upstream="older") as alice,
        talks.line("bob", upstream="older") as bob,
        alice.open() as hers,
        bob.open() as his,
    ):
        (given, own) = (next(iter(stream)).message for stream in (hers, his))
        raw, _, _ = given.rpartition(".")
        seen = talks.watch()
        refused(seen, bob.post(hello, path=given), "foreign-session", 404)
        seen = talks.watch()
        assert bob.post(hello, path=raw).status_code == 403  # where it leads is not known without the tag
        assert seen.record(code="unlisted")
        assert seen.arrived == []
        assert bob.post(hello, path=own).status_code == 202
        assert alice.post(hello, path=given).status_code == 202
        assert all(next(iter(stream)).message["result"] for stream in (hers, his))


TASK_REPLIES = {
    "as its result": {"task": {"taskId": "t-1", "status": "working"}},
    "as a task": {"resultType": "task", "taskId": "t-1", "status": "working"},
    "in _meta": {"content": [], "_meta": {TASK: {"taskId": "t-1"}}},
}


@pytest.mark.parametrize("method", ["tasks/get", "tasks/result", "tasks/cancel", "tasks/update"])
@pytest.mark.parametrize("given", TASK_REPLIES)
def test_a_task_is_its_owners(scene: Scene, given: str, method: str) -> None:
    """The task that a call of Alice's became is read, ended and answered by her alone."""
    task = made_task(scene, given)
    for shown in (task, "t-1"):
        seen = scene.watch()
        answer = answer_of(about_task(scene, "bob", method, {"taskId": shown}))
        assert (answer["error"]["code"], answer["error"]["data"]["code"]) == (-31404, "foreign")
        assert seen.record(code="foreign")["principal"]["subject"] == "bob"
        assert seen.arrived == []
    seen = scene.watch()
    assert answer_of(about_task(scene, "alice", method, {"taskId": task}))["result"] == {"status": "working"}
    assert json.loads(body_of(seen.arrived[0]))["params"]["taskId"] == "t-1"


@pytest.mark.parametrize("method", ["tasks/get", "tasks/cancel", "tasks/update"])
def test_a_header_that_names_a_task_is_its_owners_too(scene: Scene, method: str) -> None:
    """SEP-2663: Mcp-Name repeats the task's id; it must agree with the body, and reaches the server without the tag."""
    task = made_task(scene, "as a task")
    seen = scene.watch()
    assert about_task(scene, "alice", method, {"taskId": task}, named="t-1").status_code == 400
    assert seen.record(code="header-mismatch")
    assert answer_of(about_task(scene, "bob", method, {"taskId": task}, named=task))["error"]["code"] == -31404
    assert seen.arrived == []
    assert "result" in answer_of(about_task(scene, "alice", method, {"taskId": task}, named=task))
    assert b"mcp-name: t-1\r\n" in seen.arrived[0].lower()


def test_a_task_is_listened_to_by_its_owner(scene: Scene) -> None:
    """`subscriptions/listen` names tasks as well: nobody hears of another's, or gets a tag for it by listening."""
    task = made_task(scene, "as a task")
    done = {"method": "notifications/tasks", "params": {"taskId": "t-1", "status": "completed"}}
    agreed = {
        "method": "notifications/subscriptions/acknowledged",
        "params": {"notifications": {"taskIds": ["t-1"]}},
    }
    events = [b"data: " + json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n\n" for message in (agreed, done)]
    reply = Reply.chunked(events)
    for shown in (task, "t-1"):
        seen = scene.watch()
        wanted = {"notifications": {"taskIds": [shown]}}
        answer = about_task(scene, "bob", "subscriptions/listen", wanted, reply=reply)
        assert "foreign" in answer.text
        assert "t-1." not in answer.text
        assert seen.record(code="foreign")
        assert seen.arrived == []
    seen = scene.watch()
    heard = about_task(scene, "alice", "subscriptions/listen", {"notifications": {"taskIds": [task]}}, reply=reply)
    assert heard.text.count(task) == 2
    assert json.loads(body_of(seen.arrived[0]))["params"]["notifications"]["taskIds"] == ["t-1"]


def test_nobody_lists_tasks(scene: Scene) -> None:
    """A list would not say whose the tasks are, so there is none; of a single task of hers Alice hears."""
    seen = scene.watch()
    assert answer_of(about_task(scene, "alice", "tasks/list", {}))["error"]["data"]["code"] == "denied"
    assert seen.arrived == []
    assert "result" in answer_of(about_task(scene, "alice", "tasks/get", {"taskId": made_task(scene, "as a task")}))


def made_task(scene: Scene, given: str) -> str:
    """The id, as she gets it, of the task that a call of Alice's became."""
    made = {"jsonrpc": "2.0", "id": 1, "result": TASK_REPLIES[given]}
    result = scene.call(sub="alice", reply=Reply.whole(json.dumps(made).encode())).json()["result"]
    task: str = (result.get("task") or result.get("_meta", {}).get(TASK) or result)["taskId"]
    assert task.startswith("t-1.")
    return task


BEFORE_2026 = ("tasks/list", "tasks/result")
WORKING = Reply.whole(b'{"jsonrpc":"2.0","id":1,"result":{"status":"working"}}')


def about_task(
    scene: Scene, who: str, method: str, params: dict[str, Any], *, reply: Reply = WORKING, named: str = ""
) -> httpx.Response:
    """What comes of a request about tasks, to which the server would give this reply."""
    scene.echo.answer(reply)
    with Line(scene.echo.url, scene.token(sub=who), scene.gateway.url) as line:
        if method in BEFORE_2026:
            return line.post(request(method, params), **{"MCP-Protocol-Version": LEGACY})
        return line.modern(method, params, **({"Mcp-Name": named} if named else {}))


def body_of(request: bytes) -> bytes:
    """What follows the head of a request."""
    return request.partition(b"\r\n\r\n")[2]


def raw_session(talks: Talks, line: Line) -> str:
    """The id of a line's session as the server knows it."""
    given = line.session["Mcp-Session-Id"]
    known = {one.header("mcp-session-id")[0] for one in talks.talker.arrivals.read() if one.header("mcp-session-id")}
    (raw,) = [session for session in known if given.startswith(f"{session}.")]
    return raw
