"""Which roles a principal has, which of them exclude each other, and what they may call."""

import functools
import json
from collections.abc import Callable
from dataclasses import dataclass

from mcp_sod.errors import Conflict, Denied
from mcp_sod.exchange import Principal
from mcp_sod.policy.handovers import COLLECT, poses_as_collecting, takers
from mcp_sod.policy.patterns import alike, globs
from mcp_sod.policy.people import Exclusive, Permission
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.mcp import Call

MOST_SEEN = 1024  # characters of a denied principal's groups that log and record show

type Test = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Duty:
    """One compiled permission."""

    upstream: str
    method: Test
    tool: Test
    barred: Test

    def allows_tool(self, name: str) -> bool:
        """Say whether the tool may be called."""
        return self.tool(name) and not self.barred(name)


def roles_of(principal: Principal, policy: Policy) -> frozenset[str]:
    """Return the principal's roles; raises Conflict when they exclude each other (NIST RBAC, static separation).

    A role for humans is not given to a machine, yet counts here: a job in both groups is over-broad all the same.
    """
    return _roles(principal.groups, policy, human=principal.kind == "human")


@functools.lru_cache(maxsize=1024)
def _roles(groups: frozenset[str], policy: Policy, *, human: bool) -> frozenset[str]:
    claimed = {name: role for name, role in policy.document.roles.items() if not groups.isdisjoint(role.groups)}
    for rule in policy.document.separation.exclusions:
        held = [name for name in rule.roles if name in claimed]
        if len(held) > rule.most:
            raise Conflict(_explained(groups, policy, rule, held), hint="Have its groups separated, then try again.")
    return frozenset(name for name, role in claimed.items() if human or not role.humans)


def check_permission(
    policy: Policy, roles: frozenset[str], upstream: str, call: Call, principal: Principal | None = None
) -> None:
    """Raise Denied unless one of the roles may make the call; the record says where the principal's roles are from."""
    if call.tool is not None and poses_as_collecting(policy, upstream, call.tool):
        _check_collecting(policy, roles, upstream, call.tool, principal)
        return
    duties = [duty for duty in _duties(policy, roles) if duty.upstream == upstream]
    signal = call.kind == "notification" and call.method.startswith("notifications/")
    if duties and (signal or call.kind in ("response", "stream", "close")):
        return  # the protocol's own means, for whoever may talk to this upstream at all
    for duty in duties:
        if duty.method(call.method) and (call.tool is None or duty.allows_tool(call.tool)):
            return
    what = "call this tool" if call.tool else "use this method"
    raise Denied(f"You may not {what} on {upstream}: {_mine(roles)}.", hint="Ask for a role that permits it.",
                 operator=_groups_seen(policy, principal))  # fmt: skip


def visible_tool(policy: Policy, roles: frozenset[str], upstream: str) -> Test:
    """Return the test for the tools that a list may show: those that the roles may call."""
    duties = [duty for duty in _duties(policy, roles) if duty.upstream == upstream and duty.method("tools/call")]

    def visible(name: str) -> bool:
        return any(duty.allows_tool(name) for duty in duties) and not poses_as_collecting(policy, upstream, name)

    return visible


def _check_collecting(
    policy: Policy, roles: frozenset[str], upstream: str, tool: str, principal: Principal | None
) -> None:
    """Raise Denied unless one of the roles gets results of this upstream: that is all it takes to ask for one."""
    if tool != COLLECT:
        raise Denied(f"This name stands for the gateway's own tool {COLLECT} on {upstream}.", hint="Write it so.")
    wanted = takers(policy, upstream)
    if roles.isdisjoint(wanted):
        raise Denied(f"Results of {upstream} go to the role {' or '.join(sorted(wanted))}: {_mine(roles)}.",
                     hint="Ask for it.", operator=_groups_seen(policy, principal))  # fmt: skip


def _mine(roles: frozenset[str]) -> str:
    return f"your roles are {', '.join(sorted(roles))}" if roles else "your groups give you no role"


def _groups_seen(policy: Policy, principal: Principal | None) -> str:
    """Return what log and record say of the principal's groups: most denials of newcomers are a wrong claim or name."""
    if principal is None:
        return ""
    if principal.groups:
        seen = json.dumps(sorted(principal.groups))
        return f"Groups seen: {seen if len(seen) <= MOST_SEEN else seen[:MOST_SEEN] + '…'}."
    issuers = {issuer.issuer: issuer.claims.group_paths for issuer in policy.document.identity}
    issuers |= {saml.entity: (saml.claims.groups,) for saml in policy.document.saml.values()}
    return f"The token names no groups (claims.groups: {', '.join(issuers.get(principal.issuer, ())) or 'none'})."


@functools.lru_cache(maxsize=256)
def _duties(policy: Policy, roles: frozenset[str]) -> tuple[Duty, ...]:
    found = [permission for role in sorted(roles) for permission in policy.document.permissions.get(role, [])]
    return tuple(_compiled(permission) for permission in found)


def _compiled(permission: Permission) -> Duty:
    return Duty(
        upstream=permission.upstream,
        method=globs(permission.methods),
        tool=globs(permission.tools),
        barred=alike(permission.except_),
    )


def _explained(groups: frozenset[str], policy: Policy, rule: Exclusive, held: list[str]) -> str:
    because = "; ".join(
        f"{name} from {', '.join(sorted(groups.intersection(policy.document.roles[name].groups)))}" for name in held
    )
    return f"Your roles exclude each other ({because}): the rule separation.static {rule} allows {rule.most}."
