"""Streams of model APIs: what a client puts together from the delivered events never holds a secret."""

import json
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mcp_sod.errors import SodError, Withheld
from mcp_sod.masking.deltas import ModelStream, masked_whole
from mcp_sod.masking.masks import Masks, masks_for
from mcp_sod.masking.models import ModelReply
from mcp_sod.masking.pieces import MOST, WHOLE
from mcp_sod.policy.load import load
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.models import Dialect
from mcp_sod.wire.sse import Event
from mcp_sod.wire.strict_json import parse_text
from pydantic import Field

from tests.unit.cases import Case, rows
from tests.unit.making import exchange_of, policy_of
from tests.world.policies import DEFAULT

type Sent = tuple[str | None, str]

SECRET = "AKIAABCDEFGHIJKLMNOP"  # noqa: S105 (made up)
SAID = f"The key is {SECRET}, keep it."
MARKER = "[masked:secret]"
SHOWN = "The key is [masked:secret], keep it."
ARGUMENTS = json.dumps({"key": SECRET, "password": "hunter2", "n": 1})
SHOWN_ARGUMENTS = {"key": "[masked:secret]", "password": "[masked:field]", "n": 1}
POLICY = load(DEFAULT)
MASKS = masks_for(POLICY, frozenset())
LIMIT = 10_000


def sent(kind: str | None, **value: Any) -> Sent:
    """One event."""
    return kind, json.dumps(value)


def chat(field: str, pieces: list[str]) -> list[Sent]:
    """A completion whose text comes in pieces, in a field of the delta, or in a tool call's arguments."""
    head: dict[str, Any] = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-x"}

    def chunk(delta: Any, finish: str | None = None) -> Sent:
        choice = {"index": 0, "delta": delta, "logprobs": {"content": [{"token": SECRET}]}, "finish_reason": finish}
        return sent(None, **head, choices=[choice])

    if field == "arguments":
        first = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": ""}}
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": None, "tool_calls": [first]}]
        deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": piece}}]} for piece in pieces]
    else:
        deltas = [{"role": "assistant", "content": ""}, *({field: piece} for piece in pieces)]
    finish = "tool_calls" if field == "arguments" else "stop"
    usage = sent(None, **head, choices=[], usage={"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3})
    return [*map(chunk, deltas), chunk({}, finish), usage, (None, "[DONE]")]


def of_chat(field: str, events: list[Sent]) -> str:
    """The text that a client of Chat Completions puts together."""
    assert events[-1] == (None, "[DONE]")
    text, finished = "", False
    for _, data in events[:-1]:
        for choice in json.loads(data)["choices"]:
            assert choice["logprobs"] is None if "logprobs" in choice else True
            delta = choice["delta"]
            calls = delta.get("tool_calls") or []
            piece = "".join(call["function"]["arguments"] for call in calls) if calls else delta.get(field) or ""
            assert not (piece and finished)
            text += piece
            finished = finished or choice["finish_reason"] is not None
    return text


def responses(field: str, pieces: list[str]) -> list[Sent]:
    """A response with one output item, whose text comes in pieces and then whole, three times over."""
    text, place = "".join(pieces), {"item_id": "msg_1", "output_index": 0}
    if field == "arguments":
        stem, done = "response.function_call_arguments", {"arguments": text}
        item: dict[str, Any] = {
            "id": "fc_1",
            "type": "function_call",
            "call_id": "call_1",
            "name": "f",
            "status": "completed",
        }
        begun, item = item | {"arguments": ""}, item | {"arguments": text}
        part: dict[str, Any] | None = None
    else:
        place, stem, done = place | {"content_index": 0}, "response.output_text", {"text": text}
        part = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
        item = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed"}
        probable = {"logprobs": [{"token": text, "logprob": 0.1, "top_logprobs": []}]}
        begun, item = item | {"content": []}, item | {"content": [part | {"text": text} | probable]}
    whole = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-x", "tools": [], "output": [item]}
    whole |= {"parallel_tool_calls": True, "tool_choice": "auto", "status": "completed"}
    named: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": whole | {"output": [], "status": "in_progress"}}),
        ("response.output_item.added", {"output_index": 0, "item": begun}),
        *([("response.content_part.added", place | {"part": part})] if part else []),
        *((f"{stem}.delta", place | {"delta": piece, "obfuscation": "xY"}) for piece in pieces),
        (f"{stem}.done", place | done | ({"logprobs": [{"token": text}]} if part else {})),
        *([("response.content_part.done", place | {"part": part | {"text": text}})] if part else []),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        ("response.completed", {"response": whole}),
    ]
    return [sent(name, type=name, sequence_number=number, **value) for number, (name, value) in enumerate(named)]


def of_responses(field: str, events: list[Sent]) -> str:
    """The text that a client of Responses puts together; its numbers go up by one, and the whole texts are masked."""
    values = [json.loads(data) for _, data in events]
    assert [value["sequence_number"] for value in values] == list(range(len(values)))
    assert all(kind == value["type"] for (kind, _), value in zip(events, values, strict=True))
    names = [value["type"] for value in values]
    text = "".join(value["delta"] for value in values if value["type"].endswith(".delta"))
    item = values[-1]["response"]["output"][0]
    whole = item["arguments"] if field == "arguments" else item["content"][0]["text"]
    last = max((at for at, name in enumerate(names) if name.endswith(".delta")), default=0)
    assert last < names.index(next(name for name in names if name.endswith(("_text.done", "_arguments.done"))))
    assert text == whole
    return text


def anthropic(field: str, pieces: list[str]) -> list[Sent]:
    """A message with one block, whose text comes in pieces."""
    kinds = {"text": "text_delta", "thinking": "thinking_delta", "partial_json": "input_json_delta"}
    blocks: dict[str, dict[str, Any]] = {
        "text": {"type": "text", "text": ""},
        "thinking": {"type": "thinking", "thinking": "", "signature": ""},
        "partial_json": {"type": "tool_use", "id": "toolu_1", "name": "f", "input": {}},
    }
    message: dict[str, Any] = {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-x",
        "content": [],
    }
    message |= {"stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 1, "output_tokens": 1}}
    deltas = [{"type": kinds[field], field: piece} for piece in pieces]
    deltas += [{"type": "signature_delta", "signature": "c2lnbmF0dXJl"}] if field == "thinking" else []
    values: list[dict[str, Any]] = [
        {"type": "message_start", "message": message},
        {"type": "content_block_start", "index": 0, "content_block": blocks[field]},
        {"type": "ping"},
        *({"type": "content_block_delta", "index": 0, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {}},
        {"type": "message_stop"},
    ]
    return [sent(value["type"], **value) for value in values]


def of_anthropic(field: str, events: list[Sent]) -> str:
    """The text that a client of Messages puts together."""
    values = [json.loads(data) for _, data in events]
    assert [kind for kind, _ in events] == [value["type"] for value in values]
    assert [value["type"] for value in values][-3:] == ["content_block_stop", "message_delta", "message_stop"]
    assert "c2lnbmF0dXJl" in str(events) or field != "thinking"
    return "".join(value["delta"].get(field, "") for value in values if value["type"] == "content_block_delta")


type Made = Callable[[str, list[str]], list[Sent]]
type Joined = Callable[[str, list[Sent]], str]
KINDS: list[tuple[Dialect, str, Made, Joined, str]] = [
    ("openai", "chat/completions", chat, of_chat, "content"),
    ("openai", "chat/completions", chat, of_chat, "refusal"),
    ("openai", "chat/completions", chat, of_chat, "reasoning_content"),
    ("openai", "chat/completions", chat, of_chat, "arguments"),
    ("openai", "responses", responses, of_responses, "text"),
    ("openai", "responses", responses, of_responses, "arguments"),
    ("anthropic", "messages", anthropic, of_anthropic, "text"),
    ("anthropic", "messages", anthropic, of_anthropic, "thinking"),
    ("anthropic", "messages", anthropic, of_anthropic, "partial_json"),
]
STREAMS = pytest.mark.parametrize(
    ("dialect", "endpoint", "made", "joined", "field"), KINDS, ids=[f"{kind[1]} {kind[4]}" for kind in KINDS]
)
JSON = ("arguments", "partial_json")


def delivered(dialect: Dialect, endpoint: str, events: list[Sent], masks: Masks = MASKS) -> list[Sent]:
    """What is delivered of a stream."""
    stream = ModelStream(dialect, endpoint, masks, LIMIT)
    return [*(out for event in events for out in stream.event(*event)), *stream.end()]


def cut(text: str) -> Iterator[list[str]]:
    """The text in two and in three pieces, cut everywhere (the second cut of three a few characters on)."""
    for at in range(1, len(text)):
        yield [text[:at], text[at:]]
        yield from ([text[:at], text[at : at + more], text[at + more :]] for more in (1, 7) if at + more < len(text))


@STREAMS
def test_a_secret_cut_anywhere(dialect: Dialect, endpoint: str, made: Made, joined: Joined, field: str) -> None:
    """However the pieces are cut, the client gets the masked text, whole, and the secret nowhere in the stream."""
    said = ARGUMENTS if field in JSON else SAID
    for pieces in cut(said):
        events = delivered(dialect, endpoint, made(field, pieces))
        assert SECRET not in str(events)
        text = joined(field, events)
        assert (json.loads(text) == SHOWN_ARGUMENTS) if field in JSON else (text == SHOWN), pieces


@STREAMS
def test_what_is_not_sensitive_is_delivered_as_it_came(
    dialect: Dialect, endpoint: str, made: Made, joined: Joined, field: str
) -> None:
    """A stream without a secret says the same after masking, and without masks its bytes are the same."""
    said = '{"a": [1, "b"]}' if field in JSON else "Nothing 4 here: a “quoted” naïve pass-word…"
    events = made(field, [said[:5], said[5:9], said[9:]])
    assert joined(field, delivered(dialect, endpoint, events)) == said
    assert delivered(dialect, endpoint, events, Masks((), POLICY.sweep, frozenset())) == events


@STREAMS
def test_a_stream_that_breaks_off_shows_its_rest_masked(
    dialect: Dialect, endpoint: str, made: Made, joined: Joined, field: str
) -> None:
    """What was held when the upstream went away is delivered at the end, masked."""
    said = ARGUMENTS if field in JSON else f"The key is {SECRET}"
    events = made(field, [said])
    mark = "hunter2" if field in JSON else "The key"
    broken = events[: next(at for at, (_, data) in enumerate(events) if mark in data) + 1]
    stream = ModelStream(dialect, endpoint, MASKS, LIMIT)
    before = [out for event in broken for out in stream.event(*event)]
    rest = stream.end()
    assert SECRET not in str(before)
    assert "masked" not in str(before)
    (last,) = rest
    assert "[masked:secret]" in last[1]
    assert joined(field, delivered(dialect, endpoint, events)) in (f"The key is {MARKER}", json.dumps(SHOWN_ARGUMENTS))
    if endpoint == "responses":
        assert json.loads(last[1])["sequence_number"] == len(before)


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(KINDS), st.lists(st.sampled_from(["AKIA", "ABCDEFGH", "IJKLMNOP", " ", "x", "é", "password:"])))
def test_any_pieces_are_as_any_others(kind: tuple[Dialect, str, Made, Joined, str], pieces: list[str]) -> None:
    """The text that a client gets does not depend on how it was cut."""
    dialect, endpoint, made, joined, field = kind
    text = "".join(pieces)
    texts = {joined(field, delivered(dialect, endpoint, made(field, way))) for way in (pieces, [text], list(text))}
    assert texts == {MASKS.redacted(text)}


def test_prose_flows() -> None:
    """Each word is shown at the latest two events later, and the gateway makes hardly any events of its own."""
    words = [f" {word}" for word in ("The quick brown fox, 4 of them; pass on - the token is no secret! " * 5).split()]
    stream = ModelStream("openai", "chat/completions", MASKS, LIMIT)
    said = shown = ""
    lately: list[str] = []
    for event, word in zip(chat("content", words)[1:], words, strict=False):
        shown += "".join(json.loads(data)["choices"][0]["delta"]["content"] for _, data in stream.event(*event))
        said += word
        lately = [*lately, said][-3:]
        assert len(shown) >= len(lately[0]) or len(lately) < 3
    assert said.startswith(shown)


def test_text_that_is_json_stays_json() -> None:
    """Structured output is masked by its fields' names, and parses afterwards; a footnote does not wait."""
    said = '[{"password": {"a": 1}, "b": "x"}]'
    out = of_chat("content", delivered("openai", "chat/completions", chat("content", list(said))))
    assert json.loads(out) == [{"password": "[masked:field]", "b": "x"}]
    said = '["a] b", {"password": "c } d"}]'
    for pieces in cut(said):
        out = of_chat("content", delivered("openai", "chat/completions", chat("content", pieces)))
        assert json.loads(out) == ["a] b", {"password": "[masked:field]"}], pieces
    stream = ModelStream("openai", "chat/completions", MASKS, LIMIT)
    shown = [
        data for event in chat("content", ["[1] A note", " follows ", "on"])[:3] for _, data in stream.event(*event)
    ]
    assert "[1] A" in str(shown)


ANYTHING: list[Any] = [
    None, True, 0, -1, 1.5, "", "x", [], {}, [1], {"a": "b"}, SECRET[:8], SECRET[8:], [{}], {"index": 0}, 10**30,
]  # fmt: skip
NAMES = ["delta", "text", "content", "index", "type", "logprobs", "id", "new", "choices", "output_index"]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(KINDS), st.integers(1, 19), st.data())
def test_whatever_an_upstream_sends(kind: tuple[Dialect, str, Made, Joined, str], at: int, data: st.DataObject) -> None:
    """Events with anything in any place are delivered as JSON without the secret, or withheld; no more happens."""
    dialect, endpoint, made, _, field = kind
    events = made(field, [f"It {SECRET[:at]}", f"{SECRET[at:]} x"])
    for _ in range(data.draw(st.integers(0, 3))):
        which = data.draw(st.integers(0, len(events) - 1))
        if events[which][1] != "[DONE]":
            value = json.loads(events[which][1])
            _changed(value, data)
            events[which] = events[which][0], json.dumps(value)
    stream = ModelStream(dialect, endpoint, MASKS, LIMIT)
    out: list[Sent] = []
    try:
        for event in events:
            out += stream.event(*event)
        out += stream.end()
    except SodError:
        pass
    assert SECRET not in str(out)
    assert all(json.loads(text) for _, text in out if text != "[DONE]")


def _changed(value: Any, data: st.DataObject) -> None:
    """Put anything anywhere."""
    while isinstance(value, dict | list) and value:
        key = data.draw(st.sampled_from([*value] if isinstance(value, dict) else range(len(value))))
        if isinstance(value, dict) and data.draw(st.integers(0, 4)) == 0:
            key = data.draw(st.sampled_from(NAMES))
            value[key] = data.draw(st.sampled_from(ANYTHING))
            return
        if not isinstance(value[key], dict | list) or not value[key] or data.draw(st.integers(0, 4)) == 0:
            value[key] = data.draw(st.sampled_from(ANYTHING))
            return
        value = value[key]


class Refused(Case):
    """Events of one stream, the last of which may be withheld."""

    endpoint: str
    events: list[Any] = Field(min_length=1)
    delivered: bool = False


@pytest.mark.parametrize(("policy", "case"), rows("models", Refused, "streams"))
def test_streams(policy: dict[str, Any], case: Refused) -> None:
    """What is not known, or goes on after its end, is not delivered; beside each, what is."""
    assert not policy
    dialect: Dialect = "anthropic" if case.endpoint == "messages" else "openai"
    stream = ModelStream(dialect, case.endpoint, MASKS, LIMIT)
    *before, last = [_read(event) for event in case.events]
    for event in before:
        stream.event(*event)
    if case.delivered:
        assert SECRET not in str(stream.event(*last))
        assert SECRET not in str(stream.end())
    else:
        with pytest.raises(Withheld):
            stream.event(*last)


def _read(event: Any) -> Sent:
    if isinstance(event, str):
        return None, event
    kind = event.pop("event", None) if isinstance(event, dict) else None
    return kind, json.dumps(event)


def test_what_is_held_is_bounded() -> None:
    """Arguments that would have to be held without end are withheld, of one call or many."""
    for many in (False, True):
        stream = ModelStream("openai", "chat/completions", MASKS, 1000)

        def event(at: int, *, many: bool = many) -> str:
            call = {"index": at if many else 0, "function": {"arguments": '{"x": "y' * WHOLE}}
            return json.dumps({"choices": [{"index": 0, "delta": {"tool_calls": [call]}}]})

        for at in range(125):
            assert stream.event(None, event(at))
        with pytest.raises(Withheld, match="held back"):
            stream.event(None, event(125))


def chunk(*choices: Any) -> Sent:
    """One event of Chat Completions with these choices."""
    return sent(None, choices=list(choices))


def test_a_hostile_upstream_costs_no_more_than_its_events() -> None:
    """Many items, texts and choices are refused, or cost each event no more than it costs alone."""

    def added(at: int, text: str) -> Sent:
        item = {"type": "function_call", "arguments": text}
        return sent(None, type="response.output_item.added", output_index=at, item=item)

    def said(at: int, name: str = "output_text.delta") -> Sent:
        return sent(None, type=f"response.{name}", output_index=at, content_index=0, delta="x ", text="")

    assert _seconds("responses", [added(at, "x") for at in range(MOST)]) < 5
    with pytest.raises(Withheld, match="too many"):
        _seconds("responses", [added(at, "x") for at in range(MOST + 1)])
    alone = _seconds("responses", [said(0)] * 2000)
    assert _seconds("responses", [*(added(at, "") for at in range(5000)), *([said(0)] * 2000)]) < 5 * alone + 1
    many = [*(added(at, "x") for at in range(MOST)), *([said(MOST)] * 20_000)]
    assert _seconds("responses", many) < 20 * alone + 1
    with pytest.raises(Withheld, match="too many"):
        _seconds("responses", [sent(None, **json.loads(said(0)[1]) | {"content_index": at}) for at in range(MOST)])


def test_choices_and_their_ends_are_bounded() -> None:
    """No more choices come than the API has, in one event or in all; and an end that comes again costs nothing."""
    choices = [{"index": at, "delta": {"content": "x "}} for at in range(128)]
    assert of_choices([chunk(*choices)]) == 128
    for events in ([chunk(*choices, {"index": 0, "delta": {}})], [chunk(*choices), chunk({"index": 128})]):
        with pytest.raises(Withheld, match="choices"):
            of_choices(events)
    calls = [{"index": at, "function": {"arguments": "{}"}} for at in range(30)]
    begun = [chunk({"index": at, "delta": {"tool_calls": calls}}) for at in range(128)]
    ended = [chunk(*({"index": 0, "delta": {}, "finish_reason": "stop"} for _ in range(128)))] * 600
    assert _seconds("chat/completions", [*begun, *ended]) < 2 * _seconds("chat/completions", ended) + 5
    more = [{"index": at, "function": {"arguments": "{}"}} for at in range(257)]
    assert of_choices([chunk({"index": 0, "delta": {"tool_calls": more[:256]}})])
    with pytest.raises(Withheld, match="too many"):
        of_choices([chunk({"index": 0, "delta": {"tool_calls": more}})])


def test_one_event_has_only_so_much_text_that_is_slow_to_read() -> None:
    """Disguised letters are read one by one, on the event loop; any amount of plain text is delivered."""
    for text, fits in (
        ("\uff58\uff58\uff58 " * 21_845, True),
        ("\uff58\uff58\uff58 " * 21_846, False),
        ("x " * 200_000, True),
    ):
        half = len(text) // 4 * 2
        choices = [{"index": at, "delta": {"content": part}} for at, part in enumerate((text[:half], text[half:]))]
        if fits:
            assert of_choices([chunk(*choices)]) == 2
        else:
            with pytest.raises(Withheld, match="slow"):
                of_choices([chunk(*choices)])


def of_choices(events: list[Sent]) -> int:
    """How many choices are delivered of these events."""
    stream = ModelStream("openai", "chat/completions", MASKS, LIMIT)
    return sum(len(json.loads(data)["choices"]) for event in events for _, data in stream.event(*event))


def _seconds(endpoint: str, events: list[Sent]) -> float:
    stream = ModelStream("openai", endpoint, MASKS, LIMIT)
    began = time.process_time()
    for event in events:
        stream.event(*event)
    return time.process_time() - began


def test_memory_does_not_grow_with_events() -> None:
    """Deltas that say nothing are not remembered; texts are, each once."""

    def delta(at: int, text: str) -> Sent:
        item = f"msg_{at}"
        return sent(None, type="response.output_text.delta", output_index=at, content_index=0, delta=text, item_id=item)

    sizes = {}
    for text in ("", "x"):
        stream = ModelStream("openai", "responses", MASKS, LIMIT)
        tracemalloc.start()
        for at in range(3000):
            stream.event(*delta(at, text))
        sizes[text] = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
    assert sizes[""] < 200_000 < sizes["x"]
    stream = ModelStream("anthropic", "messages", MASKS, LIMIT)
    block = {"type": "thinking", "thinking": ""}
    for at in range(MOST):
        stream.event(*sent(None, type="content_block_start", index=at, content_block=block))
    with pytest.raises(Withheld):
        stream.event(*sent(None, type="content_block_start", index=MOST, content_block=block))


def test_our_own_events_are_not_made_large() -> None:
    """What the gateway repeats in events of its own is short, or not repeated."""
    for identity, kept in (("chatcmpl-1", True), ("x" * 100_000, False)):
        stream = ModelStream("openai", "chat/completions", MASKS, LIMIT)
        stream.event(*sent(None, id=identity, choices=[{"index": 0, "delta": {"content": "password="}}]))
        ((_, rest),) = stream.end()
        assert (identity in rest) is kept


@pytest.mark.parametrize("endpoint", ["messages", "responses", "chat/completions"])
def test_an_events_type_is_plain(endpoint: str, tmp_path: Path) -> None:
    """A type that a mask would take is withheld, also where its data says the same; any other one is delivered."""
    found = {"detectors": {"bird": {"keywords": ["bluebird"]}}, "masking": [{"id": "b", "detect": ["bird"]}]}
    policy = policy_of(tmp_path, **found)
    masks = masks_for(policy, frozenset())
    dialect: Dialect = "anthropic" if endpoint == "messages" else "openai"
    chat_ = endpoint == "chat/completions"

    def reply() -> ModelReply:
        call = Call({}, endpoint, "model", "m", None)
        return ModelReply(exchange_of(policy, call), dialect, masks, masks)

    for kind in ("bluebird", "bluebird.new"):
        for data in (json.dumps({"type": kind}), "", None):
            with pytest.raises(Withheld):
                reply().event(Event(data, retry="1", kind=kind))
    plain = "error" if chat_ else "robin"
    data = json.dumps({"type": plain, "error": {"message": "a bluebird"}})
    out = reply().event(Event(data, kind=plain))
    assert out.startswith(f"event: {plain}\n".encode())
    assert b"bluebird" not in out
    assert reply().event(Event(None, retry="1", kind="robin")) == b"retry: 1\n\n"


class Body(Case):
    """A reply that is read whole: what comes out, or that nothing does."""

    dialect: Dialect
    endpoint: str = "chat/completions"
    reply: dict[str, Any]
    shown: dict[str, Any] | None = None


@pytest.mark.parametrize(("policy", "case"), rows("models", Body, "bodies"))
def test_bodies(policy: dict[str, Any], case: Body) -> None:
    """Of a whole reply the texts are masked, the probabilities left out; and its value is not used up."""
    assert not policy
    text = json.dumps(case.reply)
    value = parse_text(text)
    if case.shown is None:
        with pytest.raises(Withheld):
            masked_whole(case.dialect, case.endpoint, text, value, MASKS)
        return
    for _ in range(2):
        assert json.loads(masked_whole(case.dialect, case.endpoint, text, value, MASKS)) == case.shown


def test_a_field_that_a_mask_takes_whole_is_not_streamed(tmp_path: Path) -> None:
    """Where a mask names the very field that a stream's text comes in, the stream is withheld."""
    policy = policy_of(tmp_path, masking=[{"id": "c", "fields": ["content"]}])
    with pytest.raises(Withheld, match="takes whole"):
        delivered("openai", "chat/completions", chat("content", ["x"]), masks_for(policy, frozenset()))
    assert delivered("anthropic", "messages", anthropic("text", ["x"]), masks_for(policy, frozenset()))
