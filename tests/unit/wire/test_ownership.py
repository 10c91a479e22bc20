"""Tags: what a server gives one principal comes back from no other."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.errors import Foreign, ForeignSession
from mcp_sod.wire.ownership import Kind, Owner, untagged

KEY = b"k" * 32
ALICE, BOB = Owner.of(KEY, "tools", "alice"), Owner.of(KEY, "tools", "bob")
KINDS: list[Kind] = ["session", "event", "state", "task", "endpoint"]


@given(st.sampled_from(KINDS), st.text(min_size=1), st.text(max_size=9))
def test_an_owner_gets_back_what_the_server_gave(kind: Kind, value: str, within: str) -> None:
    """Whatever the value, its owner's tag comes off and nothing else changes; another's never does."""
    tagged = ALICE.tagged(kind, value, within)
    assert ALICE.own(kind, tagged, within) == value == untagged(tagged)
    with pytest.raises(Foreign):
        BOB.own(kind, tagged, within)


@pytest.mark.parametrize("kind", KINDS)
def test_a_tag_is_for_one_thing(kind: Kind) -> None:
    """A tag of another kind, session, upstream, key or value does not fit, and a bare value has none."""
    tagged = ALICE.tagged(kind, "v-1", "s")
    assert ALICE.own(kind, tagged, "s") == "v-1"
    others = [Owner.of(KEY, "other", "alice"), Owner.of(b"l" * 32, "tools", "alice"), Owner.of(KEY, "tool", "salice")]
    wrong = [*(owner.tagged(kind, "v-1", "s") for owner in others), ALICE.tagged(kind, "v-1"), "v-1", "v-1.", ""]
    wrong += [ALICE.tagged(other, "v-1", "s") for other in KINDS if other != kind]
    wrong += [tagged.replace("v-1", "v-2"), tagged[:-1], f"{tagged} ", f" {tagged}", tagged + tagged[-23:]]
    for value in wrong:
        with pytest.raises(ForeignSession if kind in ("session", "endpoint") else Foreign):
            ALICE.own(kind, value, "s")
