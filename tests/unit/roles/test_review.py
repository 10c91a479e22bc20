"""Who is over-broad by an export of group members."""

import random
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.errors import Conflict
from mcp_sod.roles.duties import roles_of
from mcp_sod.roles.members import MembersError, Membership, key_of, read_members
from mcp_sod.roles.review import review
from pydantic import Field

from tests.unit.cases import Case, rows
from tests.unit.making import policy_of, principal_of
from tests.unit.roles.test_duties import Separation

ROLES = {"sender": {"groups": ["users"]}, "approver": {"groups": ["approvers"]}}
STATIC = {"static": [["sender", "approver"]]}


class Export(Case):
    """An export, and what is read from it (`account: groups`), or what the error says."""

    file: str
    charset: str = "utf-8"
    accounts: list[str] | None = None
    says: list[str] | None = None


class Reviewed(Case):
    """An export, how many people it names, who of them is over-broad, and a part of why."""

    file: str
    people: int
    over_broad: list[str] = Field(default_factory=list)
    says: str = ""


@pytest.mark.parametrize(("_sections", "case"), rows("roles", Export, "exports"))
def test_exports_are_read_whole_or_not_at_all(_sections: Mapping[str, Any], case: Export) -> None:
    """The shapes that people have are read; what cannot be understood is an error, since it would be missed."""
    raw = case.file.encode(case.charset)
    assert (case.accounts is None) != (case.says is None)
    if case.accounts is not None:
        assert [f"{one.account}: {' '.join(sorted(one.groups))}" for one in read_members(raw)] == case.accounts
        return
    with pytest.raises(MembersError) as refused:
        read_members(raw)
    for part in case.says or ():
        assert part in str(refused.value)


@pytest.mark.parametrize(("sections", "case"), rows("roles", Reviewed, "review"))
def test_the_over_broad_are_found(sections: Mapping[str, Any], case: Reviewed, tmp_path: Path) -> None:
    """By person, whatever account gives which role; with the groups, the accounts and the rule."""
    found = review(read_members(case.file.encode()), policy_of(tmp_path, **sections).document)
    assert found.people == case.people
    assert [one.person for one in found.over_broad] == case.over_broad
    assert case.says in "\n".join(str(excess) for one in found.over_broad for excess in one.excesses)
    assert bool(case.says) == bool(case.over_broad)


@pytest.mark.parametrize(("sections", "case"), rows("roles", Separation, "separation"))
def test_a_review_says_what_the_gateway_will(sections: Mapping[str, Any], case: Separation, tmp_path: Path) -> None:
    """Of one account, over-broad is exactly who would be refused."""
    policy = policy_of(tmp_path, **sections)
    member = Membership("ann", "", frozenset({"ann"}), frozenset(case.groups))
    try:
        roles_of(principal_of(groups=case.groups, kind="machine" if case.machine else "human"), policy)
    except Conflict:
        refused = True
    else:
        refused = False
    assert bool(review([member], policy.document).over_broad) == refused


def test_every_rule_that_is_broken_is_named(tmp_path: Path) -> None:
    """Two rules, two reasons."""
    static = [["sender", "approver"], {"roles": ["approver", "sender"], "most": 1}]
    policy = policy_of(tmp_path, roles=ROLES, separation={"static": static})
    (one,) = review(read_members(b'{"users": ["a"], "approvers": ["a"]}'), policy.document).over_broad
    assert len(one.excesses) == 2


def test_what_makes_a_review_worth_less_is_said(tmp_path: Path) -> None:
    """No rule, no group that the policy knows, a group in another spelling; silent where all is well."""
    policy = policy_of(tmp_path, roles=ROLES, separation=STATIC)
    assert review(read_members(b'{"users": ["a"], "more": ["a"]}'), policy.document).notes == ()
    notes = review(read_members(b'{"Users": ["a"]}'), policy.document).notes
    assert [part in " ".join(notes) for part in ("gives a role", "the group Users is written users")] == [True, True]
    without = policy_of(tmp_path / "without", roles=ROLES)
    assert "no rule" in review(read_members(b'{"users": ["a"]}'), without.document).notes[0]


@pytest.mark.parametrize("depth", [10, 200_000])
def test_json_nested_without_end_is_an_error(depth: int) -> None:
    """It is told, and ends nothing."""
    with pytest.raises(MembersError):
        read_members(b"[" * depth + b"]" * depth)


@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_read_or_refused(raw: bytes) -> None:
    """Whatever stands in the file: memberships, or an error of ours."""
    try:
        found = read_members(raw)
    except MembersError:
        return
    assert all(one.keys and key_of(one.account) in one.keys for one in found)


def test_a_large_directory_takes_seconds(tmp_path: Path) -> None:
    """100 000 memberships, half of them in chains of accounts that meet by way of others."""
    shuffled = random.Random(7).sample(range(50_000), 50_000)  # noqa: S311 (no secret)
    chains = [f"strangers,u{n},p{n // 2}\nusers,u{n},p{(n + 1) // 2}" for n in shuffled]
    policy = policy_of(tmp_path, roles=ROLES, separation=STATIC)
    began = time.monotonic()
    found = review(read_members("\n".join(["group,user,person", *chains]).encode()), policy.document)
    assert (found.people, found.over_broad) == (1, ())
    assert time.monotonic() - began < 20
