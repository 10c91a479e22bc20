"""The order of records in and across batches; attacks on it are in test_verify.py."""

import gzip
import json

from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.audit.batches import Batches, span
from mcp_sod.audit.chaining import Gap
from mcp_sod.audit.layout import Batch
from mcp_sod.audit.reader import Object, Source
from mcp_sod.audit.report import Problem
from mcp_sod.audit.store import Version

from tests.unit.audit.test_objects import NOW, Versioned


def walk(seqs: list[int], last: int) -> tuple[list[int | None], list[Problem]]:
    """The seqs that come out of one batch, None for each gap, and the problems told."""
    lines = b"".join(
        json.dumps({"seq": seq, "prev": "00" * 32, "gateway": "gw-1", "time": ""}).encode() + b"\n" for seq in seqs
    )
    store = Versioned({"1": gzip.compress(lines)})
    source = Source("gw-1", ((Batch("gw-1", "", 0, last, ""), Object("k", Version("k", "1", NOW), (), 0)),), ())
    problems: list[Problem] = []
    items = list(Batches(store, source, problems.append, lambda: None))
    return [None if isinstance(item, Gap) else item.seq for item in items], problems


def test_records_in_order_come_out() -> None:
    """The control: every record once, in order, nothing told."""
    assert walk([0, 1, 2, 3], 3) == ([0, 1, 2, 3], [])


@given(st.lists(st.integers(0, 6), max_size=9))
def test_whatever_comes_is_put_in_order_or_told(seqs: list[int]) -> None:
    """Any other sequence is told, and what comes out only ever rises."""
    out, problems = walk(seqs, 5)
    rising = [seq for seq in out if seq is not None]
    assert rising == sorted(set(rising))
    assert bool(problems) == (seqs != [0, 1, 2, 3, 4, 5])


def test_a_hole_is_a_gap() -> None:
    """Where records are missing, nothing is taken to chain across."""
    assert walk([0, 3], 3)[0] == [0, None, 3, None]


def test_runs_have_words() -> None:
    """One record is no run."""
    assert (span(3, 3), span(3, 4)) == ("record 3", "records 3 to 4")
