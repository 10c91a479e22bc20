"""Roles: who has which, what they exclude, and what they permit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.errors import Conflict, Denied
from mcp_sod.policy.policy import Policy
from mcp_sod.roles.duties import MOST_SEEN, check_permission, roles_of, visible_tool
from mcp_sod.wire.mcp import Call

from tests.unit.cases import Case, rows
from tests.unit.making import call_of, policy_of, principal_of


class Member(Case):
    """Someone in groups."""

    groups: list[str]
    machine: bool = False
    upstream: str = "tools"

    def held(self, policy: Policy) -> frozenset[str]:
        """The roles that the groups give."""
        return roles_of(principal_of(groups=self.groups, kind="machine" if self.machine else "human"), policy)


class Permission(Member):
    """A call of theirs, and whether it is allowed."""

    method: str
    tool: str | None = None
    target: str | None = None
    notification: bool = False
    allowed: bool

    def call(self) -> Call:
        """The call of the row."""
        params = {"name": self.tool or self.target, "uri": self.target} if self.tool or self.target else None
        params = {name: value for name, value in params.items() if value is not None} if params else None
        return call_of(self.method, params, request_id=None if self.notification else 1)


class Separation(Member):
    """The roles that they have, or what the refusal names."""

    roles: list[str] | None = None
    says: str | None = None


class Listing(Member):
    """The tools that they see and do not see."""

    shows: list[str]
    hides: list[str]


@pytest.mark.parametrize(("sections", "case"), rows("roles", Permission, "permissions"))
def test_only_what_a_role_permits_is_allowed(sections: Mapping[str, Any], case: Permission, tmp_path: Path) -> None:
    """A call passes if one role of the caller permits upstream, method and tool, and is denied otherwise."""
    policy = policy_of(tmp_path, **sections)
    if case.allowed:
        check_permission(policy, case.held(policy), case.upstream, case.call())
    else:
        with pytest.raises(Denied, match="You may not"):
            check_permission(policy, case.held(policy), case.upstream, case.call())


@pytest.mark.parametrize(("sections", "case"), rows("roles", Separation, "separation"))
def test_roles_that_exclude_each_other_are_refused(
    sections: Mapping[str, Any], case: Separation, tmp_path: Path
) -> None:
    """Two roles of one separation rule refuse everything, naming groups and rule; machines get no role of humans."""
    policy = policy_of(tmp_path, **sections)
    assert (case.roles is None) != (case.says is None)
    if case.roles is not None:
        assert sorted(case.held(policy)) == case.roles
        return
    with pytest.raises(Conflict) as refused:
        case.held(policy)
    because, _, rule = (case.says or "").partition("; rule: ")
    assert because in refused.value.sentence
    assert f"separation.static {rule}" in refused.value.sentence


@pytest.mark.parametrize(("sections", "case"), rows("roles", Listing, "lists"))
def test_a_list_shows_what_may_be_called(sections: Mapping[str, Any], case: Listing, tmp_path: Path) -> None:
    """A tool is shown if, and only if, the reader may call it."""
    policy = policy_of(tmp_path, **sections)
    roles = case.held(policy)
    visible = visible_tool(policy, roles, case.upstream)
    assert [name for name in case.shows if not visible(name)] == []
    assert [name for name in case.hides if visible(name)] == []
    for name in (*case.shows, *case.hides):
        try:
            check_permission(policy, roles, case.upstream, call_of(params={"name": name}))
        except Denied:
            assert not visible(name)
        else:
            assert visible(name)


def test_a_denial_names_what_one_has(tmp_path: Path) -> None:
    """The sentence says what was asked, where, and which roles the caller has."""
    policy = policy_of(tmp_path, roles={"a": {"groups": ["g"]}})
    for groups, mine in ((["g"], "your roles are a"), ([], "your groups give you no role")):
        with pytest.raises(Denied, match=f"call this tool on tools: {mine}"):
            check_permission(
                policy, roles_of(principal_of(groups=groups), policy), "tools", call_of(params={"name": "x"})
            )


def test_log_and_record_say_which_groups_were_seen(tmp_path: Path) -> None:
    """Groups that give no role are named to the operator, and so is the claim where there are none."""
    believed = {"issuer": "https://login.example", "audience": ["a"], "keys": "discover", "machine": "none"}
    policy = policy_of(tmp_path, identity=[{**believed, "claims": {"groups": ["groups", "realm.roles"]}}])
    for groups, said in (
        (["b", "a"], 'Groups seen: ["a", "b"].'),
        ([], "The token names no groups (claims.groups: groups, realm.roles)."),
        (["g" * 5000], "g" * (MOST_SEEN - 2) + "…."),
    ):
        with pytest.raises(Denied) as refused:
            check_permission(policy, frozenset(), "tools", call_of(params={"name": "x"}), principal_of(groups=groups))
        assert refused.value.operator.endswith(said)
        assert refused.value.operator not in refused.value.for_caller
        assert "give you no role" in refused.value.for_caller
    elsewhere = principal_of(issuer="https://other.example")
    with pytest.raises(Denied, match=r"\(claims\.groups: none\)"):
        check_permission(policy, frozenset(), "tools", call_of(params={"name": "x"}), elsewhere)
