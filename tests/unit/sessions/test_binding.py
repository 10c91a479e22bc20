"""Where a call stands: in whose session, with whose things."""

import base64
import functools
import json
from collections.abc import Mapping
from typing import Any

import pytest
from mcp_sod.errors import Denied, Foreign, ForeignSession, Malformed, Refusal, Removed, Unasked
from mcp_sod.exchange import Standing
from mcp_sod.sessions.binding import stand
from mcp_sod.wire.conversation import Conversations
from mcp_sod.wire.headers import STATELESS_SINCE
from mcp_sod.wire.mcp import Call, read_bodyless, read_call
from mcp_sod.wire.ownership import Owner
from mcp_sod.wire.replies import RELATED_TASK

from tests.unit.making import UPSTREAM, request_of

MINE, ANOTHERS = Owner.of(b"k" * 32, "tools", "me"), Owner.of(b"k" * 32, "tools", "another")


def placed(
    message: Mapping[str, Any] | None,
    headers: Mapping[str, str] | None = None,
    talks: Conversations | None = None,
    url: str = "",
) -> tuple[Call, Standing, Any]:
    """The call as the server is to read it, where it stands, and the message that goes upstream (None: as it came)."""
    body = json.dumps(message).encode() if message is not None else b""
    call = read_call(headers or {}, body, 64) if body else read_bodyless(headers or {}, "GET", b"")
    request = request_of(body=body, url=url or UPSTREAM)
    talk = functools.partial((talks or Conversations()).of, MINE.key)
    call, standing = stand(call, request, MINE, talk, endpoint=bool(url))
    sent = standing.outgoing.body
    return call, standing, None if sent is None else json.loads(sent)


def asked(method: str, **params: Any) -> dict[str, Any]:
    """A request."""
    return {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}


def asked_now(method: str, **params: Any) -> dict[str, Any]:
    """A request of the stateless era."""
    return asked(method, **params, _meta={"io.modelcontextprotocol/protocolVersion": STATELESS_SINCE})


def related(task: str) -> dict[str, Any]:
    """The `_meta` of a message that belongs to a task."""
    return {"_meta": {RELATED_TASK: {"taskId": task}}}


def test_a_session_and_its_events_are_its_owners() -> None:
    """The tags come off; an event belongs to one session; another's, or one without a tag, is foreign."""
    headers = {"mcp-session-id": MINE.tagged("session", "s"), "last-event-id": MINE.tagged("event", "7", "s")}
    call, standing, _ = placed(None, headers)
    assert standing.session == "s"
    assert dict(standing.outgoing.headers) == dict(call.header_texts) == {"mcp-session-id": "s", "last-event-id": "7"}
    for name, value, refusal in (
        ("mcp-session-id", "s", ForeignSession),
        ("mcp-session-id", ANOTHERS.tagged("session", "s"), ForeignSession),
        ("mcp-session-id", "", ForeignSession),
        ("last-event-id", "7", Foreign),
        ("last-event-id", MINE.tagged("event", "7", "t"), Foreign),
        ("last-event-id", ANOTHERS.tagged("event", "7", "s"), Foreign),
    ):
        with pytest.raises(refusal):
            placed(None, headers | {name: value})


NAMES: list[tuple[str, Any]] = [  # what is named; the message with its value
    ("state", lambda value: asked("tools/call", name="t", requestState=value)),
    ("task", lambda value: asked("tasks/get", taskId=value)),
    ("task", lambda value: asked("tasks/cancel", taskId=value)),
    ("task", lambda value: asked("subscriptions/listen", notifications={"taskIds": [value]})),
    ("task", lambda value: asked("tools/call", name="t", **related(value))),
    ("task", lambda value: {"jsonrpc": "2.0", "method": "notifications/progress", "params": related(value)}),
]


@pytest.mark.parametrize(("kind", "message"), NAMES)
def test_what_a_message_names_is_its_owners(kind: Any, message: Any) -> None:
    """Request states and tasks go upstream without their tags, all else byte for byte; another's are foreign."""
    assert placed(message(MINE.tagged(kind, "v")))[2] == message("v")
    for value in ("v", ANOTHERS.tagged(kind, "v"), MINE.tagged("event", "v"), ""):
        with pytest.raises(Foreign if value else Refusal):
            placed(message(value))


def test_what_names_nothing_goes_as_it_came() -> None:
    """Arguments may say anything; a client's own tasks are its own to name."""
    for message in (
        asked("tools/call", name="t", arguments={"taskId": "x", "requestState": "y"}),
        {"jsonrpc": "2.0", "method": "notifications/tasks/status", "params": {"taskId": "mine"}},
    ):
        assert placed(message)[2] is None


@pytest.mark.parametrize(
    ("message", "refusal"),
    [
        (asked("tasks/list"), Denied),
        (asked("tools/call", name="t", _meta={RELATED_TASK: {"taskid": "x"}}), Malformed),
        ({"jsonrpc": "2.0", "id": 5, "result": {}}, Unasked),
        (asked("subscriptions/listen", notifications={"taskIds": [7]}), Malformed),
        (asked("subscriptions/listen", notifications={"taskIDs": ["x"]}), Malformed),
    ],
)
def test_what_cannot_be_told_to_be_its_owners_is_refused(message: Any, refusal: type[Refusal]) -> None:
    """A list of everyone's tasks, a key that differs in case, an answer that nobody asked for."""
    with pytest.raises(refusal):
        placed(message)


def test_an_answer_has_the_method_that_it_answers() -> None:
    """The server's request in this session, by id and type of id, gives its answer a method."""
    talks = Conversations()
    talks.of(MINE.key, "s").demand(5, "sampling/createMessage")
    talks.of(ANOTHERS.key, "s").demand(6, "ping")
    headers = {"mcp-session-id": MINE.tagged("session", "s")}
    answer = {"jsonrpc": "2.0", "id": 5, "result": {}}
    assert placed(answer, headers, talks)[0].method == "sampling/createMessage"
    for wrong in ({**answer, "id": "5"}, {**answer, "id": 6}):
        with pytest.raises(Unasked):
            placed(wrong, headers, talks)
    with pytest.raises(Unasked):
        placed(answer, {}, talks)


def test_an_endpoint_is_its_owners() -> None:
    """What a 2024-11-05 server gave out to POST to is reached by whom it was given, without its tag."""
    url = "http://127.0.0.1:9000/messages?session_id=a"
    tagged = MINE.tagged("endpoint", "/messages?session_id=a")
    _, standing, _ = placed(asked("ping"), url=f"http://127.0.0.1:9000{tagged}")
    assert (standing.outgoing.path, standing.session) == ("/messages?session_id=a",) * 2
    for wrong in (url, "http://127.0.0.1:9000" + ANOTHERS.tagged("endpoint", "/messages?session_id=a")):
        with pytest.raises(ForeignSession):
            placed(asked("ping"), url=wrong)


NOW = {"mcp-protocol-version": STATELESS_SINCE}


def test_a_tasks_name_goes_upstream_in_the_header_too() -> None:
    """Where Mcp-Name repeats the task, it loses its tag as the body does, in a form that a header can carry."""
    for task, named in (("t-1", "t-1"), ("t é", "=?base64?dCDDqQ==?=")):
        tagged = MINE.tagged("task", task)
        encoded = f"=?base64?{base64.b64encode(tagged.encode()).decode()}?="
        _, standing, sent = placed(asked_now("tasks/get", taskId=tagged), NOW | {"mcp-name": encoded})
        assert standing.outgoing.headers["mcp-name"] == named
        assert sent == asked_now("tasks/get", taskId=task)


def test_methods_that_are_gone_are_not_found() -> None:
    """The stateless era has neither `tasks/list` nor `tasks/result`; a client is told so with the code for it."""
    for method in ("tasks/list", "tasks/result"):
        with pytest.raises(Removed) as refused:
            placed(asked_now(method, taskId="t"), NOW)
        assert (refused.value.status, refused.value.rpc_code) == (404, -32601)
