# ruff: noqa: RUF001 (letters that look like others are what is tested here)
"""Masks over single texts."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.masking.masks import masks_for
from mcp_sod.policy.load import load

from tests.unit.making import policy_of
from tests.world.policies import DEFAULT

NOBODY: frozenset[str] = frozenset()


def test_with_no_role_every_mask_applies() -> None:
    """Each raw role takes away its masks alone; nobody's masks are all of them."""
    policy = load(DEFAULT)
    assert [mask.name for mask in masks_for(policy, NOBODY).masks] == ["secret", "personal", "field"]
    assert not masks_for(policy, frozenset({"raw-viewer"}))
    assert masks_for(policy, frozenset({"viewer", "approver"})) == masks_for(policy, NOBODY)


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        ("aXb", "a[masked:x]b"),
        ("aXYb", "a[masked:xy]b"),
        ("XX", "[masked:x][masked:x]"),
        ("XYXX", "[masked:xy][masked:x][masked:x]"),
        ("aYb", "aYb"),
        ("", ""),
        ("𝔘 X é", "𝔘 [masked:x] é"),
        ("é Ｘ", "[masked:hidden]"),
        ("é X", "é [masked:x]"),
    ],
)
def test_overlapping_finds_go_as_one(text: str, masked: str, tmp_path: Path) -> None:
    """Of two finds at one place the longer one is cut out; offsets count characters, whatever stands before."""
    masking = [{"id": "x", "regex": "X"}, {"id": "xy", "regex": "XY"}, {"id": "u", "regex": "U X"}]
    assert masks_for(policy_of(tmp_path, masking=masking), NOBODY).redacted(text) == masked


@given(st.text(max_size=30), st.text(max_size=30))
def test_no_spelling_of_the_surroundings_saves_a_secret(before: str, after: str) -> None:
    """Whatever stands around it, a secret does not stay, and a second pass changes nothing."""
    masks = masks_for(load(DEFAULT), NOBODY)
    secret = "-----BEGIN PRIVATE KEY-----"  # noqa: S105 (a header alone)
    once = masks.redacted(f"{before}{secret}{after}")
    assert secret not in once
    assert masks.redacted(once) == once
