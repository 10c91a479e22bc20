"""A reply, masked for its reader and for the record, whole or streamed."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_sod.errors import SodError, Withheld
from mcp_sod.masking.answers import Answer
from mcp_sod.masking.masks import masks_for
from mcp_sod.masking.reply import KEPT, Reply, Stream
from mcp_sod.policy.load import load
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.sse import Events
from mcp_sod.wire.strict_json import parse
from pydantic import Field

from tests.unit.cases import Case, rows
from tests.unit.making import call_of, exchange_of, policy_of, principal_of, standing_of, tool_call
from tests.unit.wire.json_values import VALUES, written
from tests.world.policies import DEFAULT

NOBODY: frozenset[str] = frozenset()
SECRET = "AKIAABCDEFGHIJKLMNOP"  # noqa: S105 (made up)


class Masked(Case):
    """A result (or an error) as JSON, its reader's roles, and what the reader gets; `same` is what came."""

    method: str = "tools/call"
    roles: list[str] = Field(default_factory=list)
    hidden: list[str] = Field(default_factory=list)  # tools that the reader may not call
    reply: str | None = None
    error: str | None = None
    gives: str | None = None
    withheld: str | None = None

    def wrapped(self, body: str | None) -> str:
        """The whole answer around a result or an error."""
        return f'{{"jsonrpc":"2.0", "id":1, "{"error" if self.error else "result"}":{body}}}'


def reply_for(
    policy: Policy, roles: frozenset[str] = NOBODY, call: Call | None = None, hidden: tuple[str, ...] = ()
) -> Reply:
    """The reply to a call for a reader with these roles."""
    visible = (lambda name: name not in hidden) if hidden else None
    exchange = exchange_of(policy, call or tool_call())
    exchange.visible_tool = visible
    return Answer(exchange, masks_for(policy, roles), masks_for(policy, NOBODY))


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "streamed"])
@pytest.mark.parametrize(("sections", "case"), rows("masking", Masked))
def test_a_reader_gets_what_the_policy_gives(
    sections: Mapping[str, Any], case: Masked, streamed: bool, tmp_path: Path
) -> None:
    """Whole or streamed alike: masked values are markers, what cannot be masked is withheld, all else is as it came."""
    policy = policy_of(tmp_path, **sections)
    call = call_of(case.method, {"name": "t"})
    reply = reply_for(policy, frozenset(case.roles), call, tuple(case.hidden))
    came = case.wrapped(case.reply or case.error)
    if streamed:
        said = b"data: " + came.replace("\n", "\ndata: ").encode() + b"\n\n"
        delivered = b"".join(Stream(reply, "x-1", 10**6)(said))
        body = next(event.data for event in Events(10**6).feed(delivered) if event and event.data)
    elif case.withheld:
        with pytest.raises(Withheld, match=case.withheld):
            reply.whole(came.encode(), "json")
        return
    else:
        body = reply.whole(came.encode(), "json").decode()
    if case.withheld:
        assert case.withheld in body
        assert SECRET not in body
    else:
        assert body == (came if case.gives == "same" else case.wrapped(case.gives))
        parse(body.encode())


@pytest.fixture(scope="module")
def default() -> Policy:
    """The default policy."""
    return load(DEFAULT)


def answer(**result: Any) -> bytes:
    """An answer to request 1."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


@settings(max_examples=60, deadline=None)
@given(st.data(), VALUES)
def test_masking_changes_nothing_in_which_nothing_is_found(default: Policy, data: st.DataObject, value: Any) -> None:
    """A reply without anything to mask is delivered byte for byte, however it was written."""
    came = f'{{"jsonrpc":"2.0","id":1,"result":{data.draw(written(value))}}}'.encode()
    reply = reply_for(default)
    delivered = reply.whole(came, "json")
    assert delivered == came or reply.facts()["masked"]


SPICE = st.sampled_from([
    SECRET, "4111 1111 1111 1111", 4111111111111111, "password: x", "db_token='a b'", f'{{"ssn":"{SECRET}"}}',
    f"né\u200be {SECRET}", "AKIA\u200bABCDEFGHIJKLMNOP", f'"{SECRET}"', "password=[masked:x]",
    "078-05-1120 078-05-1120", "secret: secret: secret: x",
])  # fmt: skip
FIELDS = st.sampled_from(["password", "api_key", "x_token", "a", "text", "ssn", "data"])
SPICY = st.recursive(
    SPICE | VALUES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FIELDS, inner, max_size=3), max_leaves=8
)


@settings(max_examples=150, deadline=None)
@given(st.data(), SPICY)
def test_a_masked_reply_is_json_holds_nothing_and_stays_so(default: Policy, data: st.DataObject, value: Any) -> None:
    """What is delivered is valid JSON, holds none of the secrets, and masking it again changes nothing."""
    came = f'{{"jsonrpc":"2.0","id":1,"result":{data.draw(written(value))}}}'.encode()
    try:
        once = reply_for(default).whole(came, "json")
    except Withheld:
        return
    parse(once)
    assert SECRET.encode() not in once
    assert b"4111111111111111" not in once
    assert b"078-05-1120" not in once
    assert reply_for(default).whole(once, "json") == once


NOTE = '{"jsonrpc":"2.0","method":"notifications/message",%s "params":{"data":"%s"}}'
ANSWER = '{"jsonrpc":"2.0","id":1,"result":{"text":"é𝔘 %s %s","password":"%s"}}'
TAGGED = standing_of(principal_of()).owner.tagged("event", "1")
STREAM = (
    f"event: message\r\nid: 1\r\ndata: {NOTE % ('\r\ndata: ', SECRET)}\r\n\r\n"
    f": {SECRET}\n\n"
    f"data: {ANSWER % (SECRET, '\\u0041KIAABCDEFGHIJKLMNOQ', 'x')}\n\n"
).encode()
WANTED = (
    f"event: message\nid: {TAGGED}\ndata: {NOTE % ('\ndata: ', '[masked:secret]')}\n\n"
    ":\n\n"
    f"data: {ANSWER % ('[masked:secret]', '[masked:secret]', '[masked:field]')}\n\n"
).encode()


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, len(STREAM)])
def test_a_secret_cut_into_chunks_is_masked(default: Policy, size: int) -> None:
    """Chunks of any size give the same masked events; comments, which no mask sees, lose their text."""
    stream = Stream(reply_for(default), "x-1", 10_000)
    chunks = [STREAM[at : at + size] for at in range(0, len(STREAM), size)]
    assert b"".join(piece for chunk in [*chunks, b""] for piece in stream(chunk)) == WANTED


@pytest.mark.parametrize("cut", range(len(STREAM)))
def test_a_secret_cut_anywhere_is_masked(default: Policy, cut: int) -> None:
    """Wherever a stream is cut in two, nothing is delivered before it is masked, and never an empty chunk."""
    stream = Stream(reply_for(default), "x-1", 10_000)
    first, second = stream(STREAM[:cut]), stream(STREAM[cut:])
    assert SECRET.encode() not in b"".join(first)
    assert b"".join([*first, *second]) == WANTED
    assert b"" not in [*first, *second]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.binary(max_size=40) | st.sampled_from([STREAM, b"\n\n", b"data: {}\n\n", b"data: [" * 9, b"\r"]), max_size=8
    )
)
def test_a_stream_never_raises_and_never_ends_early(default: Policy, chunks: list[bytes]) -> None:
    """Whatever an upstream sends, the client's connection is not broken by an exception or an empty chunk."""
    stream = Stream(reply_for(default), "x-1", 200)
    for chunk in chunks:
        out = stream(chunk)
        assert isinstance(out, list)
        assert all(out)
        assert SECRET.encode() not in b"".join(out)


@pytest.mark.parametrize(
    "bad",
    [
        b"data: hello\n\n", b'data: {"jsonrpc":"2.0","id":2,"result":{}}\n\n', b"event: endpoint\ndata: /x\n\n",
        b"data: \xff\n\n", b"data: " + b"x" * 2000,
        f'data: {{"jsonrpc":"2.0","id":1,"result":{{"{SECRET}":1}}}}\n\n'.encode(),
        b'data: {"a":1,"a":2}\n\n', b"data: [" + b"[" * 500 + b"]" * 501 + b"\n\n",
    ],
)  # fmt: skip
def test_a_stream_ends_at_the_first_bad_event(default: Policy, bad: bytes) -> None:
    """What cannot be masked is replaced by one error for the caller; what comes after it is not delivered."""
    good = b'data: {"jsonrpc":"2.0","method":"notifications/progress","params":{}}\n\n'
    reply = reply_for(default)
    stream = Stream(reply, "x-1", 1000)
    assert len(stream(good)) == 1
    (last,) = stream(bad + good)
    (event,) = Events(10_000).feed(last)
    assert event
    assert event.data
    assert json.loads(event.data)["result"]["isError"] is True
    assert stream(good) == []
    assert reply.problem is not None
    assert reply.facts()["code"] == reply.problem.code


def test_an_unforeseen_failure_withholds_the_rest(default: Policy, monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception that nobody thought of ends the stream with an error, not with the raw event."""
    reply = reply_for(default)
    monkeypatch.setattr(reply, "event", lambda _event: 1 // 0)
    stream = Stream(reply, "x-1", 1000)
    out = b"".join(stream(STREAM))
    assert b"withheld the rest" in out
    assert SECRET.encode() not in out
    assert stream(STREAM) == []


@pytest.mark.parametrize(
    ("raw", "kind"), [(b"<html>", "other"), (b"{}", "events"), (b"{}", "empty"), (b"{", "json"), (b"\xff", "json")]
)
def test_what_is_no_json_is_withheld(default: Policy, raw: bytes, kind: Any) -> None:
    """Only JSON is masked whole; an empty body, of any kind, is delivered as it is."""
    assert reply_for(default).whole(b"", kind) == b""
    with pytest.raises(Withheld):
        reply_for(default).whole(raw, kind)


def test_facts_speak_of_what_was_delivered(default: Policy) -> None:
    """The record has size and digest of what was delivered, the count of each mask, and the masked text."""
    reply = reply_for(default)
    delivered = reply.whole(answer(a=SECRET, b=f"{SECRET} {SECRET}", password="x"), "json")  # noqa: S106 (made up)
    facts = reply.facts()
    assert (facts["bytes"], facts["sha256"]) == (len(delivered), hashlib.sha256(delivered).hexdigest())
    assert facts["masked"] == {"secret": 3, "field": 1}
    assert facts["body"] == delivered.decode()
    assert facts["cut"] is False


def test_a_record_is_masked_even_where_its_reader_is_not(default: Policy) -> None:
    """A steward gets the raw reply, the record gets the masked one; what cannot be masked is not kept."""
    came = answer(a=SECRET)
    reply = reply_for(default, frozenset({"raw-viewer"}))
    assert reply.whole(came, "json") == came
    assert SECRET not in str(reply.facts())
    assert "[masked:secret]" in str(reply.facts()["body"])
    image = answer(content=[{"type": "image", "data": "aGk="}])
    reply = reply_for(default, frozenset({"raw-viewer"}))
    assert reply.whole(image, "json") == image
    assert str(reply.facts()["body"]).startswith("[not kept: ")


def test_a_record_keeps_a_bounded_part(default: Policy) -> None:
    """Of a long reply the record keeps the beginning, and says that it is cut."""
    reply = reply_for(default)
    delivered = reply.whole(answer(a="x" * (2 * KEPT)), "json")
    facts = reply.facts()
    assert (len(str(facts["body"])), facts["cut"], facts["bytes"]) == (KEPT, True, len(delivered))


def test_slow_masks_over_many_texts_refuse_in_bounded_time(tmp_path: Path) -> None:
    """A mask of the slow lane that takes its time over thousands of texts ends in a refusal, not in a standstill."""
    policy = policy_of(tmp_path, masking=[{"id": "m", "regex": "(?=a)(a|aa)+$(?<!a)"}])
    reply_for(policy).whole(answer(a=["b" * 19] * 2000), "json")
    with pytest.raises(SodError, match="took too long"):
        reply_for(policy).whole(answer(a=["a" * 19] * 2000), "json")


@pytest.mark.parametrize(("event_id", "delivered"), [("7-1", True), ("AKIA" + "A" * 16, False)])
@pytest.mark.parametrize("data", ["data: \n", 'data: {"jsonrpc":"2.0","id":1,"result":{}}\n'])
def test_an_event_id_carries_nothing_past_the_masks(event_id: str, delivered: bool, data: str) -> None:
    """A client needs an event's id as it is, so an event whose id a mask finds something in is withheld."""
    policy = load(DEFAULT)
    stream = Stream(reply_for(policy), "x-1", 4096)
    out = b"".join(stream(f"id: {event_id}\n{data}\n".encode()))
    assert (event_id.encode() in out) == delivered
    assert (b"-31502" in out or b"isError" in out) != delivered
