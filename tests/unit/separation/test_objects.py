"""What a call does to which objects."""

from pathlib import Path

import pytest
from mcp_sod.errors import Denied
from mcp_sod.separation.keys import digest
from mcp_sod.separation.objects import acts_of, concerned

from tests.unit.making import policy_of
from tests.unit.separation.making import APPROVE, CREATE, PAY, acting, rules


@pytest.mark.parametrize(
    ("tool", "upstream", "duties"),
    [
        ("pay", "tools", 1),
        ("PAY", "tools", 1),
        ("create_x", "tools", 1),
        ("create", "tools", 0),
        ("payer", "tools", 0),
        ("pay", "other", 1),
        ("approve", "tools", 1),
        ("approve", "other", 0),
    ],
)
def test_which_duties_a_tool_performs(tmp_path: Path, tool: str, upstream: str, duties: int) -> None:
    """A duty is of a tool by pattern, as a lenient server may read its name, and of one upstream or all."""
    policy = rules(tmp_path, CREATE, {**APPROVE, "upstream": "tools"}, PAY)
    found = concerned(policy, upstream, tool)
    assert (len(found[0]), len(found[1])) == (duties, duties)
    assert concerned(policy, upstream, tool) is found  # looked up, not worked out again


def test_a_policy_without_rules_concerns_nothing(tmp_path: Path) -> None:
    """Where there is no rule, nothing is looked at."""
    assert concerned(policy_of(tmp_path), "tools", "pay") == ((), ())


def test_acts(tmp_path: Path) -> None:
    """An act knows its objects, by digest alone, or that only the result will tell."""
    policy = rules(tmp_path)
    (paid,) = acting(policy, "Pay", id=[7, "b"]).acts
    assert (paid.upstream, paid.tool, paid.key) == ("tools", "pay", "arguments:/id")
    assert paid.objects == frozenset({digest(7), digest("B")})
    (made,) = acting(policy, "create_x").acts
    assert made.objects is None
    assert acting(policy, "create_x").objects == frozenset()


def test_two_duties_at_one_place_are_one_act(tmp_path: Path) -> None:
    """What is done is remembered once, under however many rules it falls; as long as the longest asks for."""
    one, two = {"duties": [CREATE, PAY], "keep": "1h"}, {"duties": [APPROVE, PAY], "keep": "2h"}
    found = acting(policy_of(tmp_path, separation={"by_object": [one, two]}), "pay", id=7)
    assert (len(found.acts), len(found.rules), found.keep) == (1, 2, 7200)


def test_an_object_that_is_not_told_is_refused(tmp_path: Path) -> None:
    """The sentence names the place, and never what stands there."""
    _, duties = concerned(rules(tmp_path), "tools", "pay")
    with pytest.raises(Denied, match=r"arguments:/id does not tell which: it is neither") as refused:
        acts_of("tools", "pay", duties, {"id": {"secret": "s3cret"}})
    assert "s3cret" not in str(refused.value)
    assert acts_of("tools", "pay", duties, {"id": "s3cret"})
