"""What senders are told in place of results, and what of the upstream's words they still get."""

import json
from typing import Any

import pytest
from mcp_sod.errors import Withheld
from mcp_sod.wire.headers import STATELESS_SINCE
from mcp_sod.wire.receipts import (
    Outcome,
    Receipt,
    asks_back,
    bare_progress,
    collected_text,
    collecting_tool,
    outcome_text,
    receipt_text,
    tools_shown,
    untasked,
)
from mcp_sod.wire.strict_json import parse_text

from tests.unit.making import call_of

RECEIPT = Receipt("r-1", "viewer", 0)
OLD = call_of(params={"name": "x"}, request_id="a")
NEW = call_of(params={"name": "x"}, headers={"mcp-protocol-version": STATELESS_SINCE})


def answer(result: Any) -> dict[str, Any]:
    """An answer, as it is parsed."""
    return {"jsonrpc": "2.0", "id": 1, "result": result}


@pytest.mark.parametrize(
    ("outcome", "says", "failed"),
    [("result", "Done.", False), ("failure", "The tool failed.", True), ("nothing", "no result", True)],
)
def test_a_receipt_is_a_result_of_the_callers_era(outcome: Outcome, says: str, failed: bool) -> None:
    """It names the receipt, for people and for programs, under the caller's id; before 2026 it has no resultType."""
    for call in (OLD, NEW):
        told = json.loads(receipt_text(call, RECEIPT, outcome, 200, "sod_collect"))
        assert told["id"] == call.request_id
        assert told["result"]["isError"] is failed
        assert says in told["result"]["content"][0]["text"]
        assert "r-1" in told["result"]["content"][0]["text"]
        assert told["result"]["_meta"] == {"mcp-sod/receipt": "r-1"}
        assert told["result"].get("resultType") == ("complete" if call is NEW else None)
    told = json.loads(receipt_text(NEW, RECEIPT, outcome, 404, "sod_collect"))
    assert told["error"]["data"] == {"mcp-sod/receipt": "r-1"}


@pytest.mark.parametrize(
    ("params", "fine"),
    [({}, True), (None, True), ({"arguments": {"task": 1}}, True), ({"task": {}}, False), ({"TASK": None}, False)],
)
def test_a_task_is_asked_for_in_any_case(params: Any, fine: bool) -> None:
    """As a lenient server reads the key."""
    assert untasked(params) is fine


@pytest.mark.parametrize(
    ("result", "old", "new"),
    [
        ({"content": []}, False, False),
        ({"resultType": "complete"}, False, False),
        ({"resultType": "input_required", "requestState": "s"}, False, True),
        ({"resultType": "input_required", "inputRequests": {}, "_meta": {}}, False, True),
        ({"resultType": "input_required", "inputRequests": {}, "content": []}, False, None),
        ({"resultType": "else"}, False, None),
        ({"resultType": "task", "taskId": "t"}, None, None),
        ({"task": {"taskId": "t"}}, None, None),
        ({"taskId": "t"}, None, None),
        ({"task": "a text"}, False, False),
        ("no object", False, False),
    ],
)
def test_what_is_no_final_result(result: Any, old: bool | None, new: bool | None) -> None:
    """A question is the sender's where the era has questions for results; a task is nobody's (None: withheld)."""
    for call, asks in ((OLD, old), (NEW, new)):
        if asks is None:
            with pytest.raises(Withheld):
                asks_back(answer(result), call)
        else:
            assert asks_back(answer(result), call) is asks
    assert asks_back({"jsonrpc": "2.0", "id": 1, "error": {}}, NEW) is False


@pytest.mark.parametrize(
    ("params", "bare"),
    [
        ('{"progressToken":"p","progress":0.10}', '{"progressToken":"p","progress":0.10}'),
        ('{"progressToken":"p","message":"m","total":3,"progress":1}', '{"progressToken":"p","total":3,"progress":1}'),
        ('{"progressToken":"q","progress":1}', None),
        ('{"progress":1}', None),
        ('{"progressToken":"p","progress":"text"}', None),
        ('{"progressToken":"p","progress":true}', None),
        ('{"progressToken":"p","progress":123456789012345678901}', None),
        ('{"progressToken":"p","progress":1,"total":["x"]}', None),
        ("[]", None),
    ],
)
def test_progress_is_numbers_alone(params: str, bare: str | None) -> None:
    """Of the call's own progress the numbers pass, to the digit; nothing else does."""
    call = call_of(params={"name": "x", "_meta": {"progressToken": "p"}})
    text = f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{params}}}'
    message = parse_text(text)
    assert isinstance(message, dict)
    found = bare_progress(text, message, call)
    assert (None if found is None else json.loads(found)["params"]) == (None if bare is None else json.loads(bare))
    assert bare is None or bare.count("0.10") == (found or "").count("0.10")
    assert bare_progress(text, message, OLD) is None
    assert bare_progress(text, {**message, "method": "notifications/message"}, call) is None


@pytest.mark.parametrize(
    ("said", "old", "new"),
    [
        ('"result": {"n":1.10}', '"result":{"n":1.10}', '"result":{"resultType":"complete","n":1.10}'),
        ('"result":{}', '"result":{}', '"result":{"resultType":"complete"}'),
        ('"result":{ "resultType":"complete"}',) * 1 + ('"result":{ "resultType":"complete"}',) * 2,
        ('"error":{"code":1}', '"error":{"code":1}', '"error":{"code":1}'),
        ('"result":null', '"result":null', '"result":null'),
    ],
)
def test_what_is_kept_answers_a_call_of_either_era(said: str, old: str, new: str) -> None:
    """The outcome is given out as it was written, to the digit, under the collector's id."""
    text = f'{{"jsonrpc":"2.0","id":7,{said}}}'
    message = parse_text(text)
    assert isinstance(message, dict)
    outcome = outcome_text(text, message)
    assert collected_text(OLD, outcome, parse_text(outcome)) == f'{{"jsonrpc":"2.0","id":"a",{old}}}'
    assert collected_text(NEW, outcome, parse_text(outcome)) == f'{{"jsonrpc":"2.0","id":1,{new}}}'


@pytest.mark.parametrize("own", [None, collecting_tool("sod_collect", ["viewer"])])
def test_lists_promise_no_structure_for_receipts(own: str | None) -> None:
    """Handed tools lose their outputSchema and nothing else; the gateway's own tool comes last, where it is shown."""
    tool = '{"name" : "a","outputSchema":{"x":[1.0]},"n":1.10}'
    text = f'{{"jsonrpc":"2.0","id":1,"result":{{"tools":[{tool},{tool.replace('"a"', '"b"')}],"nextCursor":"c"}}}}'
    message = parse_text(text)
    assert isinstance(message, dict)
    shown = tools_shown(text, message, lambda name: name == "a", own=own)
    first, second, *rest = json.loads(shown)["result"]["tools"]
    assert (first, "outputSchema" in second) == ({"name": "a", "n": 1.1}, True)
    assert '"n":1.10' in shown
    assert [one["name"] for one in rest] == ["sod_collect"] * (own is not None)
    assert json.loads(shown)["result"]["nextCursor"] == "c"


def test_odd_lists_are_left_alone() -> None:
    """What is no list of tools is for others to judge; an empty one takes the gateway's own tool."""
    for result in ('{"tools":1}', "[]", "{}"):
        text = f'{{"jsonrpc":"2.0","id":1,"result":{result}}}'
        message = parse_text(text)
        assert isinstance(message, dict)
        assert tools_shown(text, message, lambda _name: True, own="{}") == text
    text = '{"jsonrpc":"2.0","id":1,"result":{"tools":[ ]}}'
    message = parse_text(text)
    assert isinstance(message, dict)
    assert json.loads(tools_shown(text, message, lambda _name: True, own='{"a":1}'))["result"]["tools"] == [{"a": 1}]
