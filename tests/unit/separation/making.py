"""Small real things that these tests start from."""

from collections.abc import Iterable
from itertools import count
from pathlib import Path
from typing import Any

from mcp_sod.policy.policy import Policy
from mcp_sod.separation.judgement import Past
from mcp_sod.separation.keys import digest
from mcp_sod.separation.objects import Acting, acts_of, concerned

from tests.unit.making import policy_of

REFERENCES = count(1)
CREATE = {"tool": "create_*", "key": "result:/id"}
APPROVE = {"tool": "approve", "key": "arguments:/id"}
PAY = {"tool": "pay", "key": "arguments:/id"}


def rules(folder: Path, *duties: dict[str, Any], **more: Any) -> Policy:
    """A policy with one rule of these duties."""
    return policy_of(folder, separation={"by_object": [{"duties": list(duties or (CREATE, APPROVE, PAY)), **more}]})


def acting(
    policy: Policy,
    tool: str,
    who: Iterable[str] = ("ada",),
    *,
    reference: str = "",
    upstream: str = "tools",
    **arguments: Any,
) -> Acting:
    """A call of this tool by whoever has these keys."""
    found, duties = concerned(policy, upstream, tool)
    return Acting(
        reference or f"x-{next(REFERENCES)}", frozenset(who), acts_of(upstream, tool, duties, arguments), found
    )


def past(tool: str, key: str | None = None, at: int = 1000, upstream: str = "tools") -> Past:
    """What someone did upon the object of this key, or, without one, upon which is not known."""
    place = "result:/id" if tool.startswith("create") else "arguments:/id"
    return Past(upstream, tool, place, "x-0", at, None if key is None else digest(key))
