"""What MCP servers answer, and what the gateway says in their place."""

import json

import pytest
from mcp_sod.errors import Denied, Held, Malformed, Withheld
from mcp_sod.wire.conversation import Conversation
from mcp_sod.wire.headers import STATELESS_SINCE
from mcp_sod.wire.mcp import Call, read_bodyless
from mcp_sod.wire.ownership import Kind, Owner
from mcp_sod.wire.replies import RELATED_TASK, check_reply, kept_private, refusal_body, tags, without_tools
from mcp_sod.wire.splice import splice
from mcp_sod.wire.strict_json import parse_text

from tests.unit.making import call_of


@pytest.mark.parametrize(("version", "stateless"), [(None, False), ("2025-11-25", False), (STATELESS_SINCE, True)])
def test_a_refused_tool_call_is_a_result(version: str | None, stateless: bool) -> None:
    """A `tools/call` is answered with `isError`, a sentence, code and ticket; since 2026 with a `resultType`."""
    headers = {"mcp-protocol-version": version} if version else {}
    call = call_of(params={"name": "query"}, request_id="seven", headers=headers)
    answer = json.loads(refusal_body(call, Held("Waits as t-1.", hint="Send it again."), "x-1", "t-1"))
    assert answer == {
        "jsonrpc": "2.0",
        "id": "seven",
        "result": {
            "content": [{"type": "text", "text": "Waits as t-1. Send it again. (reference x-1)"}],
            "isError": True,
            "_meta": {"mcp-sod/code": "held", "mcp-sod/reference": "x-1", "mcp-sod/ticket": "t-1"},
        }
        | ({"resultType": "complete"} if stateless else {}),
    }


@pytest.mark.parametrize("version", [None, STATELESS_SINCE])
def test_another_refused_method_is_an_error(version: str | None) -> None:
    """Every other method is answered with a JSON-RPC error whose code is nobody else's."""
    call = call_of("resources/read", {"uri": "a"}, headers={"mcp-protocol-version": version} if version else {})
    answer = json.loads(refusal_body(call, Denied("No."), "x-1", None))
    error = {"code": -31403, "message": "No. (reference x-1)", "data": {"code": "denied", "reference": "x-1"}}
    assert answer == {"jsonrpc": "2.0", "id": 1, "error": error}


def test_a_refusal_of_what_was_not_read_has_no_id() -> None:
    """Where no call was understood, the answer is an error with id null (JSON-RPC 2.0, section 5)."""
    assert json.loads(refusal_body(None, Malformed("Not JSON."), "x-1", None))["id"] is None


REPLIES: list[tuple[str, bool, bool]] = [  # message, delivered whole, delivered in a stream
    ('{"jsonrpc":"2.0","id":1,"result":{}}', True, True),
    ('{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"x"}}', True, True),
    ('{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"x"}}', True, True),
    ('{"jsonrpc":"2.0","method":"notifications/progress","params":{}}', False, True),
    ('{"jsonrpc":"2.0","id":9,"method":"sampling/createMessage","params":{}}', False, True),
    ('{"jsonrpc":"2.0","id":2,"result":{}}', False, False),
    ('{"jsonrpc":"2.0","id":"1","result":{}}', False, False),
    ('{"jsonrpc":"2.0","id":null,"result":{}}', False, False),
    ('{"jsonrpc":"2.0","id":true,"result":{}}', False, False),
    ('{"jsonrpc":"2.0","result":{}}', False, False),
    ('{"jsonrpc":"2.0","id":1,"result":{},"error":{}}', False, False),
    ('{"jsonrpc":"2.0","id":1,"result":{},"x":1}', False, False),
    ('{"jsonrpc":"2.0","id":1,"result":{},"method":"ping"}', False, False),
    ('{"jsonrpc":"1.0","id":1,"result":{}}', False, False),
    ('[{"jsonrpc":"2.0","id":1,"result":{}}]', False, False),
    ('"hello"', False, False),
]


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(("text", "whole", "stream"), REPLIES, ids=[row[0] for row in REPLIES])
def test_a_reply_answers_this_call(text: str, whole: bool, stream: bool, streamed: bool) -> None:
    """Only an answer to this call is delivered, and in a stream what a server may say meanwhile."""
    message = parse_text(text)
    if stream if streamed else whole:
        assert check_reply(message, call_of("tools/list"), Conversation(), streamed=streamed, late=False) == message
    else:
        with pytest.raises(Withheld):
            check_reply(message, call_of("tools/list"), Conversation(), streamed=streamed, late=False)


LIST = '{"jsonrpc":"2.0","id":1,"result":{"nextCursor":"c", "tools":[ %s ]}}'


@pytest.mark.parametrize(
    ("tools", "left"),
    [
        ('{"name":"a"}, {"name":"b", "n": 1.50}, {"name":"c"}', '{"name":"b", "n": 1.50}'),
        ('{"name":"a"},{"name":"c"}', ""),
        ('{"name":"b"},{"title":"no name"},7,"b",{"name":["b"]}', '{"name":"b"}'),
        ('{"name":"b"},{"name":"B"},{"name":"b "}', '{"name":"b"}'),
    ],
)
def test_a_list_shows_only_visible_tools(tools: str, left: str) -> None:
    """Tools that may not be called are taken out; what stays is as it was written."""
    text = LIST % tools
    message = parse_text(text)
    assert isinstance(message, dict)
    spliced = splice(text, without_tools(text, message, lambda name: name == "b"))
    assert spliced == LIST.replace("[ %s ]", f"[{left}]")


@pytest.mark.parametrize("text", [LIST % '{"name":"b"}', LIST % "", '{"jsonrpc":"2.0","id":1,"result":{}}'])
def test_a_list_with_nothing_to_hide_is_left_alone(text: str) -> None:
    """Where every tool may be seen, or there are none, there is no change."""
    message = parse_text(text)
    assert isinstance(message, dict)
    assert without_tools(text, message, lambda name: name == "b") == {}


def stream_of() -> Call:
    """A GET stream."""
    return read_bodyless({}, "GET", b"")


def test_a_late_answer_comes_on_a_stream_that_is_one_principals() -> None:
    """On a stream of a session, or resumed from an event, any answer may come, again and again; on no other."""
    answer = parse_text('{"jsonrpc":"2.0","id":7,"result":{}}')
    for _ in range(2):
        assert check_reply(answer, stream_of(), Conversation(), streamed=True, late=True) == answer
    with pytest.raises(Withheld):
        check_reply(answer, stream_of(), Conversation(), streamed=True, late=False)


@pytest.mark.parametrize("request_id", ["9", '"nine"'])
def test_a_servers_question_may_be_answered(request_id: str) -> None:
    """A request of the server's is remembered for its answer; the stateless era has none."""
    talk = Conversation()
    question = parse_text(f'{{"jsonrpc":"2.0","id":{request_id},"method":"elicitation/create","params":{{}}}}')
    check_reply(question, call_of("tools/call", {"name": "t"}), talk, streamed=True, late=False)
    assert talk.owed(json.loads(request_id)) == "elicitation/create"
    stateless = call_of("tools/call", {"name": "t"}, headers={"mcp-protocol-version": STATELESS_SINCE})
    with pytest.raises(Withheld):
        check_reply(question, stateless, talk, streamed=True, late=False)


@pytest.mark.parametrize("odd", ["true", "null", "1.5", "{}"])
def test_a_question_without_a_plain_id_is_withheld(odd: str) -> None:
    """Nobody could answer it."""
    question = parse_text(f'{{"jsonrpc":"2.0","id":{odd},"method":"ping"}}')
    with pytest.raises(Withheld):
        check_reply(question, stream_of(), Conversation(), streamed=True, late=False)


OWNER = Owner.of(b"k" * 32, "tools", "me")


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("state", '{"result":{"resultType":"input_required","requestState":"v"}}'),
        ("task", '{"result":{"task":{"taskId":"v","status":"working"}}}'),
        ("task", '{"result":{"resultType":"task","taskId":"v"}}'),
        ("task", '{"method":"notifications/tasks/status","params":{"taskId":"v"}}'),
        ("task", '{"method":"notifications/subscriptions/acknowledged","params":{"notifications":{"taskIds":["v"]}}}'),
        ("task", f'{{"result":{{"_meta":{{"{RELATED_TASK}":{{"taskId":"v"}}}}}}}}'),
        ("task", f'{{"method":"notifications/progress","params":{{"_meta":{{"{RELATED_TASK}":{{"taskId":"v"}}}}}}}}'),
    ],
)
def test_what_a_reply_names_is_bound_to_its_owner(kind: Kind, text: str) -> None:
    """Each opaque name gets its owner's tag; all else stays byte for byte."""
    message = parse_text(text)
    assert isinstance(message, dict)
    tagged = splice(text, tags(message, OWNER))
    assert tagged == text.replace('"v"', json.dumps(OWNER.tagged(kind, "v")))


@pytest.mark.parametrize(
    "text",
    [
        '{"result":{"structuredContent":{"taskId":"v","requestState":"v"}}}',
        '{"method":"tasks/get","id":1,"params":{"taskId":"the client\'s own"}}',
        '{"result":{"requestState":7,"task":null}}',
        '{"result":[]}',
    ],
)
def test_what_is_not_a_name_is_left_alone(text: str) -> None:
    """A tool's own fields, the client's own tasks, and what is no text."""
    message = parse_text(text)
    assert isinstance(message, dict)
    assert tags(message, OWNER) == {}


@pytest.mark.parametrize(
    ("result", "listing", "gives"),
    [
        ('{"cacheScope":"public","ttlMs":1}', False, '{"cacheScope":"private","ttlMs":1}'),
        ('{"cacheScope":"private"}', True, '{"cacheScope":"private"}'),
        ('{"cacheScope":["public"]}', False, '{"cacheScope":"private"}'),
        ('{"resultType":"complete","tools":[]}', True, '{"resultType":"complete","cacheScope":"private","tools":[]}'),
        ('{"resultType":"complete","content":[]}', False, '{"resultType":"complete","content":[]}'),
        ('{"tools":[]}', True, '{"tools":[]}'),
    ],
)
def test_no_shared_cache_may_keep_an_answer(result: str, listing: bool, gives: str) -> None:
    """What one principal may see is not for a cache that serves others; a list of the stateless era says so."""
    text = f'{{"jsonrpc":"2.0","id":1,"result":{result}}}'
    message = parse_text(text)
    assert isinstance(message, dict)
    assert splice(text, kept_private(message, listing=listing)) == f'{{"jsonrpc":"2.0","id":1,"result":{gives}}}'
