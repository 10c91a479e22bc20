"""Canonical JSON."""

from enum import StrEnum

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.audit.canonical import canonical
from mcp_sod.errors import AuditError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
KEYS = st.text(st.characters(max_codepoint=127))
SCALARS = TEXT | st.integers(-(2**53) + 1, 2**53 - 1) | st.booleans() | st.none()
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(KEYS, inner), max_leaves=20)


class Word(StrEnum):
    """A text with a type of its own."""

    ALLOW = "allow"


@given(st.dictionaries(KEYS, VALUES))
def test_equals_rfc_8785(value: dict[str, object]) -> None:
    """For every value that a record may hold, the bytes are those of an independent RFC 8785 encoder."""
    assert canonical(value) == rfc8785.dumps(value)  # type: ignore[arg-type]  # its type names no `object`


def test_takes_what_python_calls_otherwise() -> None:
    """A tuple is written as a list and a StrEnum as its text."""
    assert canonical({"b": (1, 2), "a": Word.ALLOW}) == b'{"a":"allow","b":[1,2]}'


@pytest.mark.parametrize(
    "value",
    [1.0, float("nan"), 2**53, -(2**53), "\ud800", b"x", {"é": 1}, {1: 2}, [1, [2.5]], {"a": {"b": object()}}],
    ids=repr,
)
def test_refuses_what_has_no_one_form(value: object) -> None:
    """Floats, large integers, lone surrogates and keys that are not ASCII are an AuditError, at any depth."""
    with pytest.raises(AuditError, match="canonical JSON cannot carry"):
        canonical({"field": value})


def test_refuses_endless_nesting() -> None:
    """A value nested without measure is an AuditError, not a crash."""
    value: list[object] = []
    for _ in range(100_000):
        value = [value]
    with pytest.raises(AuditError, match="too deep a nesting"):
        canonical({"field": value})
    while value:  # or Python's own clean-up would recurse
        value = value.pop()  # type: ignore[assignment]
