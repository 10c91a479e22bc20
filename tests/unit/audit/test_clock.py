"""Points in time."""

from datetime import UTC, datetime

from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.audit.clock import Stamp

STAMP = Stamp()


@given(st.integers(0, 4_000_000_000 * 1_000_000))
def test_equals_isoformat(micros: int) -> None:
    """The text is what datetime writes, whichever second came before."""
    expected = datetime.fromtimestamp(micros // 1_000_000, UTC).replace(microsecond=micros % 1_000_000)
    assert STAMP(expected.timestamp()) == expected.isoformat(timespec="microseconds").replace("+00:00", "Z")
