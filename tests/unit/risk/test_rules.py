"""The policy's rules over a call."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import pytest
from mcp_sod.errors import Unavailable
from mcp_sod.exchange import Allow, Deny, Finding, Hold
from mcp_sod.risk.rules import BUDGET, findings, place, verdict
from pydantic import Field

from tests.unit.cases import Case, rows
from tests.unit.making import call_of, inspected, policy_of, tool_call


class Risky(Case):
    """A call, what the rules find in it, and what that comes to."""

    method: str = "tools/call"
    tool: str = "query"
    name_: str | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    meta: dict[str, Any] = Field(default_factory=dict)
    headers: Mapping[str, str] = Field(default_factory=dict)
    id: int | str = 1
    upstream: str = "tools"
    findings: list[str]
    verdict: Literal["allow", "hold", "deny"]
    needs: list[str] = Field(default_factory=list)


@pytest.mark.parametrize(("sections", "case"), rows("risk", Risky))
def test_rules_find_what_is_risky(sections: Mapping[str, Any], case: Risky, tmp_path: Path) -> None:
    """Each rule finds its pattern wherever it looks, in any spelling; one deny denies, every hold must be met."""
    policy = policy_of(tmp_path, **sections)
    params = {"name": case.name_ or case.tool, "arguments": case.arguments, "_meta": case.meta}
    call = call_of(case.method, params, request_id=case.id, headers=case.headers)
    found = findings(policy, call, case.upstream, inspected(policy, call))
    assert [f"{finding.rule}@{finding.at}" for finding in found] == case.findings
    decided = verdict(policy, found)
    assert type(decided) is {"allow": Allow, "hold": Hold, "deny": Deny}[case.verdict]
    assert [rule for rule, _ in decided.needs] == case.needs if isinstance(decided, Hold) else not case.needs


def test_each_hold_keeps_its_own_approval(tmp_path: Path) -> None:
    """Two holding rules make two needs, each with role, votes and time of its own; without any, the default ones."""
    rules = [
        {"id": "a", "action": "hold", "keywords": ["xx"]},
        {"id": "b", "action": "hold", "keywords": ["xx"], "approval": {"role": "dba", "votes": 3, "within": "1h"}},
    ]
    policy = policy_of(tmp_path, rules=rules, roles={"approver": {"groups": ["a"]}, "dba": {"groups": ["d"]}})
    decided = verdict(policy, tuple(Finding(name, "low", "hold", "x") for name in ("b", "a")))
    assert isinstance(decided, Hold)
    assert [(rule, need.role, need.votes, need.within) for rule, need in decided.needs] == [
        ("a", "approver", 1, 14400),
        ("b", "dba", 3, 3600),
    ]


@pytest.mark.parametrize(
    ("path", "written"),
    [
        (("params", "arguments", "a/b", 0), "arguments:/a~1b/0"),
        (("params", "arguments"), "arguments:"),
        (("params", "uri"), "params:/uri"),
        (("header", "mcp-param-x"), "header:/mcp-param-x"),
        (("method",), "method:"),
        ((), "call:"),
    ],
)
def test_a_place_is_written_as_policies_write_it(path: tuple[str | int, ...], written: str) -> None:
    """Places in records can be copied into `where.at`."""
    assert place(path) == written


@pytest.mark.parametrize("texts", [1, 2000])
def test_a_catastrophic_rule_refuses_in_bounded_time(texts: int, tmp_path: Path) -> None:
    """One text that a pattern never gets through, or thousands that it takes its time over, end in a refusal, soon."""
    policy = policy_of(tmp_path, rules=[{"id": "r", "action": "note", "regex": "(?=a)(a|aa)+$(?<!a)"}])
    quick = tool_call(x="b" * 20)
    assert findings(policy, quick, "tools", inspected(policy, quick)) == ()
    slow = tool_call(**{f"k{n}": "a" * (60 if texts == 1 else 19) for n in range(texts)})
    began = time.monotonic()
    with pytest.raises(Unavailable):
        findings(policy, slow, "tools", inspected(policy, slow))
    assert time.monotonic() - began < 20 * BUDGET
