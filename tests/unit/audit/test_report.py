"""The report."""

from mcp_sod.audit.report import Problem, Report


def test_one_problem_is_one_too_many() -> None:
    """A report is good only without any problem; notes do not count."""
    assert Report(1, 1, "", "", "none", (), ("a note",)).ok
    assert not Report(1, 1, "", "", "none", (Problem("altered", "x", "gw-1: it."),), ()).ok
