"""Which results go to someone else, by the policy."""

from pathlib import Path
from typing import Any

import pytest
from mcp_sod.errors import PolicyError
from mcp_sod.policy.handovers import handover, poses_as_collecting, takers
from mcp_sod.policy.policy import Policy

from tests.unit.making import policy_of

ROLES = {"viewer": {"groups": ["v"]}, "steward": {"groups": ["s"]}}
UPSTREAMS = {
    "tools": {"url": "http://127.0.0.1:1/mcp", "speaks": "mcp"},
    "other": {"url": "http://127.0.0.1:2/mcp", "speaks": "mcp"},
    "model": {"url": "http://127.0.0.1:3/v1", "speaks": "openai"},
}
SSE = {"old": {"url": "http://127.0.0.1:4/sse", "speaks": "mcp-sse"}}


def with_delivery(folder: Path, upstreams: Any = UPSTREAMS, **delivery: Any) -> Policy:
    """A policy with this delivery."""
    return policy_of(folder, roles=ROLES, upstreams=upstreams, delivery=delivery)


def test_the_first_rule_that_names_a_tool_wins(tmp_path: Path) -> None:
    """By upstream and name, in any spelling that a lenient server could take for it."""
    rules = [
        {"tools": ["secret_*"], "upstream": "tools", "to": "steward"},
        {"tools": ["*_list", "secret_x"], "to": "viewer"},
    ]
    policy = with_delivery(tmp_path, rules=rules)
    found = {
        (where, tool): rule.to if (rule := handover(policy, where, tool)) else None
        for where in UPSTREAMS
        for tool in ("secret_x", "Secret_X", "a_list", "query")
    }
    assert found == {
        ("tools", "secret_x"): "steward", ("tools", "Secret_X"): "steward", ("tools", "a_list"): "viewer",
        ("tools", "query"): None, ("other", "secret_x"): "viewer", ("other", "Secret_X"): "viewer",
        ("other", "a_list"): "viewer", ("other", "query"): None,
        **{("model", tool): None for tool in ("secret_x", "Secret_X", "a_list", "query")},
    }  # fmt: skip
    assert takers(policy, "tools") == {"steward", "viewer"}
    assert takers(policy, "other") == {"viewer"}
    assert takers(policy, "model") == takers(policy, "nowhere") == frozenset()


def test_by_default_nothing_is_handed_over(tmp_path: Path) -> None:
    """With `inline` and no rule the name sod_collect is any tool's; with `receipt` every result is a viewer's."""
    policy = with_delivery(tmp_path / "inline")
    assert handover(policy, "tools", "x") is None
    assert not poses_as_collecting(policy, "tools", "sod_collect")
    policy = with_delivery(tmp_path / "receipt", default="receipt")
    rule = handover(policy, "tools", "x")
    assert rule is not None
    assert rule.to == "viewer"
    for name in ("sod_collect", "SOD_collect", " sod\u200b_collect"):
        assert poses_as_collecting(policy, "tools", name)
    assert not poses_as_collecting(policy, "tools", "sod_collects")
    assert not poses_as_collecting(policy, "model", "sod_collect")


@pytest.mark.parametrize(
    ("delivery", "says"),
    [
        ({"rules": [{"tools": ["x"], "to": "viewer"}]}, "delivery.rules.0: 'old' speaks mcp-sse"),
        ({"rules": [{"tools": ["x"], "to": "viewer", "upstream": "old"}]}, "delivery.rules.0: 'old' speaks mcp-sse"),
        ({"rules": [{"tools": ["x"], "to": "viewer", "upstream": "model"}]}, "'model' has no tools"),
        ({"default": "receipt"}, "delivery.default: 'old' speaks mcp-sse"),
        ({"rules": [{"tools": ["x"], "to": "nobody", "upstream": "tools"}]}, "no role 'nobody'"),
        ({"rules": [{"tools": ["x"], "to": "viewer", "upstream": "tols"}]}, "no upstream 'tols'"),
        ({"rules": [{"tools": ["x"], "to": "viewer", "upstream": "tools"}]}, None),
        ({"default": "inline"}, None),
    ],
)
def test_what_could_not_be_handed_over_is_no_policy(delivery: Any, says: str | None, tmp_path: Path) -> None:
    """Answers of the older transport come on a stream that their sender reads: a rule about them protects nothing."""
    upstreams = UPSTREAMS | SSE
    if says is None:
        with_delivery(tmp_path, upstreams, **delivery)
        return
    with pytest.raises(PolicyError) as refused:
        with_delivery(tmp_path, upstreams, **delivery)
    assert says in str(refused.value)
