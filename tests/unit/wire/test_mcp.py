"""MCP messages."""

from collections.abc import Mapping
from typing import Any, Literal

import pytest
from mcp_sod.errors import Malformed
from mcp_sod.wire.mcp import read_call
from pydantic import Field

from tests.unit.cases import Case, Part, rows
from tests.unit.making import call_of


class Gives(Part):
    """What a call says of itself."""

    method: str
    request: bool
    target: str | None = None
    tool: str | None = None
    stateless: bool = False
    header_texts: Mapping[str, str] = Field(default_factory=dict)


class Reading(Case):
    """A body with its headers, and what it is: a call, or refused with a code."""

    body: str
    headers: Mapping[str, str] = Field(default_factory=dict)
    gives: Gives | None = None
    refused: Literal["malformed", "header-mismatch"] | None = None


class Repeat(Case):
    """Two calls; `against` is the first, which names the tool `query` and nothing else unless it says more."""

    params: dict[str, Any]
    against: dict[str, Any] = Field(default={"name": "query"})
    method: str = "tools/call"
    headers: Mapping[str, str] = Field(default_factory=dict)
    upstream: str = "tools"
    id: int | str = 1
    same: bool


@pytest.mark.parametrize(("_policy", "case"), rows("wire", Reading, "calls", "headers"))
def test_a_body_is_one_call_or_refused(_policy: object, case: Reading) -> None:
    """What is not understood in exactly one way is refused with its code; everything else is read as it was meant."""
    assert (case.gives is None) != (case.refused is None)
    if case.refused:
        with pytest.raises(Malformed) as refused:
            read_call(case.headers, case.body.encode(), 64)
        assert refused.value.code == case.refused
        return
    call = read_call(case.headers, case.body.encode(), 64)
    assert case.gives == Gives(
        method=call.method,
        request=call.is_request,
        target=call.name,
        tool=call.tool,
        stateless=call.stateless,
        header_texts=dict(call.header_texts),
    )


def test_a_long_id_is_refused() -> None:
    """An id of 256 characters is taken, a longer one is not."""
    call_of(request_id="x" * 256, params={"name": "query"})
    with pytest.raises(Malformed):
        call_of(request_id="x" * 257, params={"name": "query"})


@pytest.mark.parametrize(("_policy", "case"), rows("wire", Repeat, "digests"))
def test_an_approval_is_bound_to_one_call(_policy: object, case: Repeat) -> None:
    """The digest changes with everything that the upstream acts on, and with nothing that a mere repeat changes."""
    first = call_of(params=case.against)
    again = call_of(case.method, case.params, request_id=case.id, headers=case.headers)
    assert (first.digest("tools") == again.digest(case.upstream)) is case.same


def test_texts_are_all_that_goes_upstream() -> None:
    """Strings, numbers, keys and decoded header parameters, with their places; a number as id is none."""
    call = call_of(
        params={"name": "query", "arguments": {"sql": "x", "deep": [{"k": 7}], "in": "é"}, "_meta": {"note": "n"}},
        headers={"mcp-param-region": "=?base64?w6k=?="},
        request_id=4111111111111111,
    )
    found = call.texts()
    assert (("params", "arguments", "sql"), "x") in found.leaves
    assert (("params", "arguments", "deep", 0, "k"), "7") in found.leaves
    assert (("params", "_meta", "note"), "n") in found.leaves
    assert (("header", "mcp-param-region"), "é") in found.leaves
    assert (("params", "arguments", "deep", 0, "k"), "k") in found.keys
    assert "4111111111111111" not in found.plain()
    assert "pin-4111" in call_of("ping", request_id="pin-4111").texts().plain()
