"""Which results go to someone else than their sender, by the policy's `delivery:`, compiled."""

import functools
from collections.abc import Callable
from typing import Final

from mcp_sod.policy.patterns import alike, plain_name
from mcp_sod.policy.people import VIEWER, Handover
from mcp_sod.policy.policy import Policy

COLLECT: Final = "sod_collect"  # the gateway's own tool, on every upstream that a handover names


def handover(policy: Policy, upstream: str, tool: str) -> Handover | None:
    """Return the first handover that names the tool, as it stands or as a lenient server may read it; or None."""
    return next((rule for named, rule in _of(policy, upstream) if named(tool)), None)


def takers(policy: Policy, upstream: str) -> frozenset[str]:
    """Return the roles to which some result of this upstream goes; none where all results go to their senders."""
    return frozenset(rule.to for _, rule in _of(policy, upstream))


def poses_as_collecting(policy: Policy, upstream: str, tool: str) -> bool:
    """Say whether a tool has, or could be taken to have, the name of the gateway's own one on this upstream."""
    return bool(_of(policy, upstream)) and plain_name(tool) == COLLECT


@functools.lru_cache(maxsize=256)
def _of(policy: Policy, upstream: str) -> tuple[tuple[Callable[[str], bool], Handover], ...]:
    here, delivery = policy.document.upstreams.get(upstream), policy.document.delivery
    if here is None or here.speaks != "mcp":
        return ()
    rules = [rule for rule in delivery.rules if rule.upstream in (None, upstream)]
    if delivery.default == "receipt":
        rules.append(Handover(tools=["*"], to=VIEWER))
    return tuple((alike(rule.tools), rule) for rule in rules)
