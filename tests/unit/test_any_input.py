"""Whatever comes, from either side: it is released as it was inspected, or refused with a record, and nothing fails."""

import itertools
import json
import re
from collections.abc import Iterator
from typing import cast

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from mcp_sod.wire.strict_json import Json, parse

from tests.fuzz.passing import CALL, DENYING, JSON_TYPE, SSE_TYPE, Fields, Passing, leaks, patience, through
from tests.fuzz.streams import CUTS, cut, streams
from tests.fuzz.targets import alike, read_again
from tests.unit.house import SECRET, House
from tests.unit.making import body_of
from tests.unit.wire.json_values import TEXT, VALUES, same, written

REFERENCE = re.compile(rb"x-[0-9a-f]{16}")  # the one part of an answer that is new each time


@pytest.fixture(scope="module")
def passing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Passing]:
    """A chain for all tests here."""
    passing = Passing(House(tmp_path_factory.mktemp("house"), rules=DENYING))
    with patience():
        yield passing
    passing.close()


@settings(max_examples=200, deadline=None)
@given(st.data(), st.dictionaries(TEXT, VALUES, max_size=4))
def test_what_leaves_is_what_was_inspected(passing: Passing, data: st.DataObject, arguments: dict[str, Json]) -> None:
    """Any arguments, however they are written, leave byte for byte as they came, and are what the stages looked at."""
    whole: Json = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {"name": "t", "arguments": arguments}}
    body = data.draw(written(whole)).encode()
    flow = passing.flow(body)
    assert passing.asked(flow)
    assert flow.request.raw_content == body
    call = passing.call(flow)
    assert call is not None
    assert same(cast("Json", call.message), whole)
    assert same(parse(flow.request.raw_content), whole)
    assert json.loads(body) == json.loads(json.dumps(whole, default=float))


@settings(max_examples=100, deadline=None)
@given(st.data(), st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20), VALUES)
def test_what_is_changed_on_its_way_is_that_alone(
    passing: Passing, data: st.DataObject, state: str, value: Json
) -> None:
    """A state that a server gave comes back to it as it was, however it is written, and all beside it byte for byte."""
    asked = passing.flow()
    assert passing.asked(asked)
    given = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"requestState": state}}).encode()
    shown = json.loads(passing.answered(asked, [given], JSON_TYPE).rpartition(b"))")[2])["result"]["requestState"]
    assert shown != state
    before = f'{{"params":{{"a":{data.draw(written(value))}, "name":"t","requestState": '
    after = ' } ,"id":1,"jsonrpc":"2.0","method":"tools/call"}'
    flow = passing.flow(f"{before}{data.draw(written(shown))}{after}".encode())
    assert passing.asked(flow)
    left = (flow.request.raw_content or b"").decode()
    assert (left[: len(before)], left[-len(after) :]) == (before, after)
    assert json.loads(left)["params"]["requestState"] == state


def test_a_secret_in_any_place_is_inspected(passing: Passing) -> None:
    """The control: what must not leave does not, wherever among the arguments it stands."""
    for arguments in ({"a": [{"b": SECRET}]}, {"a": {SECRET: 1}}):
        body = body_of("tools/call", {"name": "t", "arguments": arguments})
        assert not passing.asked(passing.flow(body))
        assert not passing.asked(passing.flow(body.replace(b"AKIA", b"\\u0041KIA")))
        assert passing.asked(passing.flow(body.replace(b"AKIA", b"BKIA")))


NAMES = st.sampled_from([
    b"content-type", b"Content-Type", b"content-encoding", b"content-length", b"transfer-encoding", b"host",
    b"authorization", b"mcp-method", b"mcp-name", b"mcp-param-a", b"mcp-protocol-version", b"mcp-session-id", b"cookie",
    b"last-event-id", b"upgrade", b"trailer", b"retry-after", b"",
])  # fmt: skip
ODD = st.sampled_from([
    b"application/json", b"text/event-stream", b"Application/JSON; Charset=UTF-8", b"text/html", b"identity", b"gzip",
    b"tools/call", b"query", b"2025-11-25", b"2026-07-28", b"=?base64?cXVlcnk=?=", b"=?base64?!?=", b"=?q?x?=",
    b"127.0.0.1:9000", b"[::1", b"a@b:99999999", b"[:\xff", b"Bearer x", b"-1", b"chunked", SECRET.encode(),
])  # fmt: skip
ODD_HEADERS = st.lists(st.tuples(NAMES | st.binary(max_size=9), ODD | st.binary(max_size=9)), max_size=4).map(tuple)
HEADERS = st.builds(lambda typed, odd: (*typed, *odd), st.sampled_from([JSON_TYPE, JSON_TYPE, ()]), ODD_HEADERS)
MESSAGES = st.sampled_from([
    CALL, CALL.replace(b"select 1", SECRET.encode()), body_of("tools/list", {}, request_id="a"), body_of("ping"),
    body_of("initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {}}),
    body_of("resources/read", {"uri": "file:///a"}), body_of("prompts/get", {"name": "p", "arguments": {"a": "b"}}),
    body_of("completion/complete", {"ref": {"type": "ref/prompt", "name": "p"}, "argument": {"name": "a"}}),
    body_of("notifications/cancelled", {"requestId": 1}, request_id=None), b'{"jsonrpc":"2.0","id":1,"result":{}}',
    b'{"jsonrpc":"2.0","id":1,"error":{"code":1,"message":"m"}}', b"[" + CALL + b"]", b"[]", b"{}", b"",
])  # fmt: skip
SNIPPETS = st.sampled_from([
    b'"', b"\\", b"{", b"]", b",", b'"id":1,', b'"params":null', b"\xff", b"\xef\xbb\xbf", b"\\ud800", b"\\u0000",
    b"1e999999999", b"-0", b"9" * 5000, b"NaN", b"[" * 70, b"{" * 3000, b"null", SECRET.encode(), b" ",
])  # fmt: skip


@st.composite
def mutated(draw: st.DrawFn, of: st.SearchStrategy[bytes]) -> bytes:
    """A message with some places of it replaced."""
    body = draw(of)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(body)))
        body = body[:start] + draw(SNIPPETS | st.binary(max_size=4)) + body[start + draw(st.integers(0, 4)) :]
    return body


ENVELOPE: dict[str, Json] = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {}}


@st.composite
def shapes(draw: st.DrawFn) -> bytes:
    """JSON that is shaped like a message, with values of any type in any place."""
    keys = st.sampled_from(["name", "uri", "arguments", "_meta", "cursor", "ref", "requestState", "taskId", "Name"])
    params = st.dictionaries(keys, VALUES | st.just("query"), max_size=4)
    methods = st.sampled_from(["tools/call", "tools/list", "prompts/get", "tasks/get", "resources/subscribe", "ping"])
    parts = {"jsonrpc": VALUES, "id": VALUES, "method": methods | VALUES, "params": params | VALUES, "result": VALUES}
    message = ENVELOPE | {key: draw(parts[key]) for key in draw(st.sets(st.sampled_from(sorted(parts))))}
    return draw(written(message)).encode()


BODIES = st.binary(max_size=60) | mutated(MESSAGES) | shapes()


METHODS = st.sampled_from(["POST", "POST", "GET", "DELETE", "X"])
PATHS = st.sampled_from(["/mcp", "/mcp", "", "/%"])


@settings(max_examples=400, deadline=None)
@given(BODIES, HEADERS, METHODS, PATHS)
@example(b"\xef\xbb\xbf" + CALL, JSON_TYPE, "POST", "/mcp")
@example(CALL.replace(b'"name"', b'"name": "drop", "name"'), JSON_TYPE, "POST", "/mcp")
@example(b"", (), "GET", "/mcp")
def test_no_request_gets_past_or_goes_unrecorded(
    passing: Passing, body: bytes, headers: Fields, method: str, path: str
) -> None:
    """Whatever a client sends leaves as it came and was read, or is refused on record; and no stage fails over it."""
    flow = passing.flow(body, headers, method, path)
    if passing.asked(flow):
        assert flow.request.raw_content == body
        assert not leaks(body)
        call = passing.call(flow)
        assert call is not None
        assert alike(call.message, read_again(body or b"{}"))
        assert path == "/mcp"
        assert method != "X"


REPLY_MESSAGES = st.sampled_from([
    b'{"jsonrpc":"2.0","id":1,"result":{"content":[{"type":"text","text":"%b"}]}}' % SECRET.encode(),
    b'{"jsonrpc":"2.0","id":1,"result":{"tools":[{"name":"query"},{"name":"drop"}, 1, {"name": 2}]}}',
    b'{"jsonrpc":"2.0","id":1,"result":{"blob":"QUtJQUFCQ0RFRkdISUpLTE1OT1A=","type":"image","data":"aGk="}}',
    b'{"jsonrpc":"2.0","id":null,"error":{"code":-1,"message":"m","data":{"a":"%b"}}}' % SECRET.encode(),
    b'{"jsonrpc":"2.0","id":1,"result":{"%b":1}}' % SECRET.encode(), b'{"jsonrpc":"2.0","id":2,"result":{}}', b"",
])  # fmt: skip


@st.composite
def reply_shapes(draw: st.DrawFn) -> bytes:
    """JSON that is shaped like an answer, with values of any type in any place."""
    parts = {"jsonrpc": VALUES, "id": VALUES, "result": VALUES, "error": VALUES, "method": VALUES}
    message: Json = {"jsonrpc": "2.0", "id": 1, "result": draw(VALUES)}
    assert isinstance(message, dict)
    return draw(
        written(message | {key: draw(parts[key]) for key in draw(st.sets(st.sampled_from(sorted(parts))))})
    ).encode()


REPLIES = st.binary(max_size=60) | mutated(REPLY_MESSAGES) | reply_shapes() | streams()
KINDS = st.sampled_from([JSON_TYPE, SSE_TYPE, (), ((b"Content-Type", b"text/html"),)])
HEADS = st.builds(lambda kind, odd: (*kind, *odd), KINDS, ODD_HEADERS)
CHUNKS = st.builds(cut, REPLIES, CUTS)
ASKED = st.sampled_from([CALL, body_of("tools/list"), body_of("notifications/cancelled", {}, request_id=None)])
STATUSES = st.sampled_from([200, 200, 202, 400, 500, 101, 204, 999])


@settings(max_examples=400, deadline=None)
@given(ASKED, CHUNKS, HEADS, STATUSES)
def test_no_reply_gets_past_or_goes_unrecorded(
    passing: Passing, call: bytes, chunks: list[bytes], head: Fields, status: int
) -> None:
    """Whatever an upstream answers, in whatever chunks, it is delivered masked or withheld on record; nothing fails."""
    flow = passing.flow(call)
    assert passing.asked(flow)
    assert not leaks(passing.answered(flow, chunks, head, status))


@settings(max_examples=300, deadline=None)
@given(streams(), CUTS)
def test_where_a_stream_is_cut_does_not_matter(passing: Passing, stream: bytes, cuts: list[int]) -> None:
    """Cut anywhere, a stream of any line ends, comments, marks, ids and garbage gives the client the same bytes."""

    def delivered(chunks: list[bytes]) -> bytes:
        flow = passing.flow()
        assert passing.asked(flow)
        return REFERENCE.sub(b"x", passing.answered(flow, chunks, SSE_TYPE))

    whole = delivered([stream])
    assert delivered(cut(stream, cuts)) == whole
    assert not leaks(whole)


SHORT = f'data: {{"jsonrpc":"2.0","method":"notifications/a","params":{{"a":"{SECRET}"}}}}\r\n\r\n'.encode()


def test_a_secret_cut_anywhere_in_three_is_masked(passing: Passing) -> None:
    """For every two places in an event: nothing comes before its end, and then it comes masked."""
    wanted = SHORT.replace(SECRET.encode(), b"[masked:secret]").replace(b"\r\n", b"\n")
    ends = len(SHORT) - 1  # the CR of the blank line: it ends the event, whether an LF follows or not
    for one, two in itertools.combinations(range(1, len(SHORT)), 2):
        masks = passing.masks()
        first, second, third = (through(masks, [SHORT[a:b]]) for a, b in ((0, one), (one, two), (two, len(SHORT))))
        assert first == (b"" if one < ends else first)
        assert second == (b"" if two < ends or one >= ends else second)
        assert first + second + third in (wanted, b"event: message\n" + wanted), (one, two)


def test_the_tests_here_can_fail(passing: Passing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stage that stumbles is refused at the edge; that is what these tests look for, and in a reply, too."""
    flow = passing.flow()
    assert passing.asked(flow)
    with monkeypatch.context() as broken:
        broken.setattr("mcp_sod.intake.addon.reply_kind", None)
        with pytest.raises(AssertionError, match="The gateway failed"):
            passing.answered(flow, [b"{}"], JSON_TYPE)
    monkeypatch.setattr("mcp_sod.intake.addon.admit", None)
    with pytest.raises(AssertionError, match="The gateway failed"):
        passing.asked(passing.flow())
