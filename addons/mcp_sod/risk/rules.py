"""The policy's rules, compiled; a call in, findings and a verdict out."""

import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from mcp_sod.errors import Unavailable
from mcp_sod.exchange import Allow, Deny, Finding, Hold, Inspected, Verdict
from mcp_sod.policy.findings import Approval, Rule
from mcp_sod.policy.patterns import Detector, alike, globs, plain_name
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.mcp import UNCOVERED, Call
from mcp_sod.wire.strict_json import Path, pointer

BUDGET = 0.5  # seconds for all rules over one call of the usual size
BUDGET_PER_BYTE = 1e-5  # seconds more

type Fold = Callable[[str | int], str]


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """One rule, ready to be asked."""

    rule: Rule
    detectors: tuple[Detector, ...]
    upstream: Callable[[str], bool]
    method: Callable[[str], bool]
    tool: Callable[[str], bool]
    at: tuple[Path, ...]

    def concerns(self, call: Call, upstream: str) -> bool:
        """Say whether `where` names this call."""
        return self.upstream(upstream) and self.method(call.method) and self.tool(call.tool or "")

    def place(self, inspected: Inspected, until: float) -> Path | None:
        """Return where the first match is; the root where the rule looks for nothing but the call itself.

        Raises Unavailable when the monotonic clock passes `until`.
        """
        if not self.detectors:
            return ()
        suspects = inspected.suspects.intersection(self.detectors)
        folded = functools.cache(_folded)  # for this one message: names are the caller's, and may be long
        for found in inspected.texts if suspects else ():
            for path, text in found:
                if self._looks_at(path, folded) and any(detector.found_in(text) for detector in suspects):
                    return path
                _in_time(until)
        return None

    def _looks_at(self, path: Path, folded: Fold) -> bool:
        return not self.at or any(_same_place(path, prefix, folded) for prefix in self.at)


def findings(policy: Policy, call: Call, upstream: str, inspected: Inspected) -> tuple[Finding, ...]:
    """Return what the rules find in the call; raises Unavailable when looking takes too long."""
    return tuple(_found(policy, call, upstream, inspected))


def verdict(policy: Policy, found: tuple[Finding, ...]) -> Verdict:
    """Return what the findings come to: one deny denies; every hold must be satisfied; notes change nothing."""
    denied = tuple(finding.rule for finding in found if finding.action == "deny")
    if denied:
        return Deny(denied)
    held = {finding.rule for finding in found if finding.action == "hold"}
    needs = [(rule.id, rule.approval or Approval()) for rule in policy.document.rules if rule.id in held]
    return Hold(tuple(needs)) if needs else Allow()


def uncovered(policy: Policy, inspected: Inspected) -> bool:
    """Say whether a rule finds something where no approval covers it: where it may stand in a repeat alone."""
    mine = {detector for rule in compiled(policy) for detector in rule.detectors}
    suspects = inspected.suspects & mine
    loose = [text for path, text in inspected.texts.leaves if path in UNCOVERED] if suspects else []
    return any(suspect.found_in(text) for text in loose for suspect in suspects)


def place(path: Path) -> str:
    """Return a path as policies and records write it: `arguments:/sql`, `params:/uri`, `header:/mcp-param-x`."""
    match path:
        case ("params", "arguments", *rest):
            return f"arguments:{pointer(tuple(rest))}"
        case (str(first), *rest):
            return f"{first}:{pointer(tuple(rest))}"
    return "call:"


def _found(policy: Policy, call: Call, upstream: str, inspected: Inspected) -> Iterator[Finding]:
    until = time.monotonic() + BUDGET + BUDGET_PER_BYTE * inspected.size
    for rule in compiled(policy):
        where = rule.place(inspected, until) if rule.concerns(call, upstream) else None
        if where is not None:
            yield Finding(rule.rule.id, rule.rule.severity, rule.rule.action, place(where))
        _in_time(until)


def _in_time(until: float) -> None:
    if time.monotonic() > until:
        raise Unavailable("The rules took too long over this call.", hint="Send less text in one call.")


@functools.lru_cache(maxsize=4)
def compiled(policy: Policy) -> tuple[CompiledRule, ...]:
    """Return the policy's rules, compiled once."""
    return tuple(_compiled(rule, policy) for rule in policy.document.rules)


def _compiled(rule: Rule, policy: Policy) -> CompiledRule:
    where = rule.where
    return CompiledRule(
        rule=rule,
        detectors=policy.rule_detectors(rule),
        upstream=globs(where.upstreams or ["*"]),
        method=alike(where.methods or ["*"]),
        tool=alike(where.tools or ["*"]),
        at=tuple(_prefix(at) for at in where.at),
    )


def _prefix(at: str) -> Path:
    """Return the path that `arguments:/a/b` names; RFC 6901 escapes undone."""
    root, _, rest = at.partition(":")
    parts = [part.replace("~1", "/").replace("~0", "~") for part in rest.split("/")[1:]]
    return ("params", *(_folded(part) for part in (["arguments", *parts] if root == "arguments" else parts)))


def _same_place(path: Path, prefix: Path, folded: Fold) -> bool:
    return len(path) >= len(prefix) and all(folded(a) == b for a, b in zip(path, prefix, strict=False))


def _folded(part: str | int) -> str:
    return plain_name(str(part))  # a server may read `SQL` as `sql`
