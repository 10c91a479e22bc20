"""Durations and sizes."""

import pytest
from mcp_sod.policy.units import seconds, size


@pytest.mark.parametrize(
    ("written", "meant"), [("45s", 45), ("10m", 600), ("4h", 14400), ("7d", 604800), ("7 d", 604800)]
)
def test_durations(written: object, meant: float) -> None:
    """Seconds, minutes, hours and days."""
    assert seconds(written) == meant


@pytest.mark.parametrize(("written", "meant"), [("1B", 1), ("512KiB", 1 << 19), ("4MiB", 1 << 22), ("2GiB", 1 << 31)])
def test_sizes(written: object, meant: int) -> None:
    """Binary units."""
    assert size(written) == meant


ODD = ["", "45", "s", "0s", "-1s", "+1s", "1.5h", "1e3s", "1S", "1 week", "4MB", "1h30m", "0x1s", "9" * 10 + "s"]


@pytest.mark.parametrize("written", [*ODD, 0, 1, -1, 400, 10**400, True, None, 1.5, []])
def test_anything_else_is_refused_with_an_example(written: object) -> None:
    """What could be read in two ways, or means nothing, is an error that shows how it is written."""
    with pytest.raises(ValueError, match="such as 45s"):
        seconds(written)
    with pytest.raises(ValueError, match="such as 512KiB"):
        size(written)


@pytest.mark.parametrize("written", [400, "400"])
def test_a_number_without_a_unit_asks_for_one(written: object) -> None:
    """400 days that are read as seconds would be forgotten while their maker waits."""
    with pytest.raises(ValueError, match=r"400 of what\? Write 400s, 400m, 400h or 400d$"):
        seconds(written)
    with pytest.raises(ValueError, match=r"400 of what\? Write 400B, 400KiB, 400MiB or 400GiB$"):
        size(written)
