"""Who gets a result, what a collecting call says, and why someone may not collect (the tables hold the rest)."""

from pathlib import Path
from typing import Any, get_args

import pytest
from mcp_sod.delivery.receipts import objection, recipient, wanted
from mcp_sod.delivery.shelf import State
from mcp_sod.errors import Denied, TicketError
from mcp_sod.wire.receipts import Handed

from tests.unit.delivery.making import NOW, collector_of, parcel_of
from tests.unit.making import call_of, policy_of, tool_call


def test_a_receipt_is_fresh_and_ends_in_time(tmp_path: Path) -> None:
    """Each call has a receipt and an alias of its own, for the role and the time of its rule."""
    rules = [{"tools": ["export_*"], "to": "viewer", "within": "2h"}]
    policy = policy_of(tmp_path, roles={"viewer": {"groups": ["g"]}}, delivery={"rules": rules})
    one, other = (recipient(policy, "tools", tool_call("export_all"), NOW) for _ in range(2))
    assert isinstance(one, Handed)
    assert isinstance(other, Handed)
    assert len({one.receipt.id, other.receipt.id, one.alias, other.alias}) == 4
    assert (one.receipt.role, one.receipt.expires) == ("viewer", NOW + 7200)
    for call in (tool_call("query"), call_of("tools/list"), call_of("prompts/get", {"name": "export_all"})):
        assert recipient(policy, "tools", call, NOW) == "sender"
    assert recipient(policy, "nowhere", tool_call("export_all"), NOW) == "sender"


@pytest.mark.parametrize(
    "arguments",
    [{}, {"receipt": 7}, {"receipt": ""}, {"receipt": "r-0123456789abcdeg"}, {"receipt": "r-0123456789abcdef\n"},
     {"receipt": "r-0123456789abcdef", "more": 1}, {"Receipt": "r-0123456789abcdef"}],
)  # fmt: skip
def test_a_collecting_call_names_one_receipt(arguments: dict[str, Any]) -> None:
    """Anything but one receipt is refused before the database is asked."""
    with pytest.raises(Denied, match="takes one argument"):
        wanted(tool_call("sod_collect", **arguments))
    assert wanted(tool_call("sod_collect", receipt="r-0123456789abcdef")) == "r-0123456789abcdef"


@pytest.mark.parametrize("state", get_args(State.__value__))
def test_only_what_is_kept_can_be_collected(state: State) -> None:
    """Every other state has a sentence of its own; so has what is over."""
    refused = objection(parcel_of(state=state), collector_of(), NOW)
    assert (refused is None) == (state == "kept")
    assert refused is None or isinstance(refused, TicketError)
    assert objection(parcel_of(state="kept"), collector_of(), NOW + 59) is None
    assert "is over" in str(objection(parcel_of(state="kept"), collector_of(), NOW + 60))


def test_whose_it_is_comes_before_what_became_of_it() -> None:
    """Nobody learns the state of what is not theirs to collect."""
    for state in get_args(State.__value__):
        assert "the role viewer" in str(objection(parcel_of(state=state), collector_of("bob", "sender"), NOW))
        assert "apart" in str(objection(parcel_of(state=state), collector_of("alice"), NOW))
