"""What became of a call whose result tells the object."""

from pathlib import Path
from typing import Any

import pytest
from mcp_sod.separation.keys import digest
from mcp_sod.separation.outcome import Outcome

from tests.unit.separation.making import acting, rules

KEY = "result:/id"
MADE = {"result": {"structuredContent": {"id": 7}}}
VAGUE: dict[str, Any] = {"result": {"content": []}}
FAILED = {"result": {"isError": True, "structuredContent": {"id": 7}}}


def error(code: Any) -> dict[str, Any]:
    """An answer that is an error."""
    return {"error": {"code": code, "message": "no"}}


REFUSED = error(-32602)


@pytest.mark.parametrize(
    ("answers", "status", "settled"),
    [
        ([MADE], 200, {7}),
        ([VAGUE], 200, None),
        ([FAILED], 200, None),
        ([REFUSED], 200, set()),
        ([], 200, None),
        ([], 202, None),
        *(([], status, set()) for status in (400, 403, 404, 405, 415)),
        *(([], status, None) for status in (307, 401, 402, 406, 408, 409, 422, 429, 499, 500, 502, 503, 504, 524)),
        *(([error(code)], 200, set()) for code in (-32601, -32602, -32020)),
        *(
            ([error(code)], 200, None)
            for code in (-32600, -32603, -32700, -32800, -32000, -32001, 0, None, "-32602", [-32602])
        ),
        ([error(-32602)], 400, set()),
        ([error(-32603)], 400, None),
        ([REFUSED], 429, None),
        ([REFUSED], 504, None),
        ([{**FAILED, **REFUSED}], 200, None),
        ([{"error": "no"}], 200, None),
        ([{}], 200, None),
        ([MADE], 504, {7}),
        ([MADE], 500, {7}),
        ([MADE, MADE], 200, {7}),
        ([FAILED, MADE], 200, None),
        ([MADE, REFUSED], 200, {7}),
        ([MADE, VAGUE], 200, None),
        ([{"result": {**MADE["result"], "isError": False}}], 200, {7}),
        ([{"result": {**MADE["result"], "isError": "true"}}], 200, {7}),
        ([{"result": {**MADE["result"], "resultType": "complete"}}], 200, {7}),
        ([{"result": {**MADE["result"], "resultType": "task", "taskId": "t"}}], 200, None),
        ([{"result": {**MADE["result"], "resultType": "input_required"}}], 200, None),
        ([{"result": {**MADE["result"], "resultType": None}}], 200, None),
        ([{"result": {**MADE["result"], "task": {"taskId": "t"}}}], 200, None),
        ([{"result": "7"}], 200, None),
    ],
)
def test_what_settles(tmp_path: Path, answers: list[Any], status: int, settled: set[int] | None) -> None:
    """A result with the key settles, an error that says nothing ran drops, and whatever is not clear stays open."""
    outcome = Outcome(acting(rules(tmp_path), "create_x"), 64)
    for answer in answers:
        outcome(answer)
    found = outcome.settled(status)
    assert found == ({} if settled is None else {KEY: frozenset(digest(one) for one in settled)})


def test_what_did_not_leave_made_nothing(tmp_path: Path) -> None:
    """All that is open is dropped, and only that."""
    assert Outcome(acting(rules(tmp_path), "create_x"), 64).undone == {KEY: frozenset()}
    assert Outcome(acting(rules(tmp_path), "pay", id=7), 64).undone == {}
