"""Which of several records was altered."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from mcp_sod.audit.chaining import Gap, settle
from mcp_sod.audit.merkle import NOTHING
from mcp_sod.audit.reader import Entry


def chain(count: int) -> list[Entry]:
    """So many records that chain; a record's hash is its seq + 1, so that the first one names zeros."""
    return [Entry(seq, seq.to_bytes(32), "gw-1", "", (seq + 1).to_bytes(32), "x") for seq in range(count)]


def altered(items: Sequence[Entry | Gap]) -> list[int]:
    """The seqs that are judged to be altered."""
    return [item.entry.seq for item in settle(items) if not isinstance(item, Gap) and item.altered]


def test_an_untouched_chain_is_passed_on() -> None:
    """The control: nobody is blamed, and every leaf is the record's own."""
    items = chain(5)
    assert altered(items) == []
    assert [item.leaf for item in settle(items) if not isinstance(item, Gap)] == [each.leaf for each in items]
    assert chain(1)[0].prev == NOTHING


@pytest.mark.parametrize("victim", range(5))
def test_an_altered_record_is_named_by_the_next(victim: int) -> None:
    """A record whose bytes changed is named, and its signed hash is taken from the record after it."""
    items = chain(6)
    items[victim] = replace(items[victim], leaf=b"altered".ljust(32))
    assert altered(items) == [victim]
    assert [item.leaf for item in settle(items) if not isinstance(item, Gap)] == [each.leaf for each in chain(6)]


@pytest.mark.parametrize("victim", range(1, 5))
def test_a_lying_witness_is_named_and_the_innocent_is_not(victim: int) -> None:
    """A record that was altered together with what it says of the one before is the only one named."""
    items = chain(6)
    lie = b"altered".ljust(32)
    items[victim] = replace(items[victim], leaf=lie, prev=lie)
    assert altered(items) == [victim]


def test_nothing_is_judged_across_a_gap() -> None:
    """The record after a gap says nothing about the one before it."""
    items = chain(6)
    assert altered([*items[:2], Gap(), *items[4:]]) == []
