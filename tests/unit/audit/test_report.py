"""The report."""

import pytest
from mcp_sod.audit.report import End, Problem, Report
from mcp_sod.errors import AuditError


def test_one_problem_is_one_too_many() -> None:
    """A report is good only without any problem; notes do not count."""
    assert Report(1, 1, "", "", "none", (), ("a note",), ()).ok
    assert not Report(1, 1, "", "", "none", (Problem("altered", "x", "gw-1: it."),), (), ()).ok


@pytest.mark.parametrize(
    "end", [End("", 12, ""), End("gw-1", 12, ""), End("gw-1", 12, "0a" * 32), End("", 12, "0a" * 32)]
)
def test_the_end_of_a_log_is_read_as_it_is_written(end: End) -> None:
    """What a report prints can be given to the next run, and gateway or root may be left out."""
    assert End.parse(str(end).strip(":")) == end


@pytest.mark.parametrize("text", ["", ":", "gw-1", "gw-1:", "-1", "12:", "gw-1:12:0A", "١٢", "12 ", "g/1:12"])
def test_anything_else_is_no_end(text: str) -> None:
    """A misspelt end is an error: it must not be taken to ask for nothing."""
    with pytest.raises(AuditError, match="no end of a log"):
        End.parse(text)
