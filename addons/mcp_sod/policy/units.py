"""Durations and sizes as people write them: `45s`, `4h`, `4MiB`."""

import re
from typing import Annotated

from pydantic import BeforeValidator

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_BYTES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}


def seconds(written: object) -> float:
    """Return the seconds that `45s`, `4h` and the like say; a number without its unit could mean anything."""
    return float(_amount(written, _SECONDS, "a duration such as 45s, 10m, 4h or 7d"))


def size(written: object) -> int:
    """Return the bytes that `4MiB` and the like say; a number without its unit could mean anything."""
    return _amount(written, _BYTES, "a size such as 512KiB or 4MiB")


def _amount(written: object, units: dict[str, int], example: str) -> int:
    number = isinstance(written, int) and not isinstance(written, bool)
    if (number or (isinstance(written, str) and written.isdecimal())) and 0 < int(str(written)) < 10**9:
        choices = [f"{written}{unit}" for unit in units]
        raise ValueError(f"must be {example}: {written} of what? Write {', '.join(choices[:-1])} or {choices[-1]}")
    match = re.fullmatch(r"([1-9]\d{0,8})\s*([A-Za-z]+)", written) if isinstance(written, str) else None
    if match is None or match[2] not in units:
        raise ValueError(f"must be {example}")
    return int(match[1]) * units[match[2]]


Seconds = Annotated[float, BeforeValidator(seconds)]
Bytes = Annotated[int, BeforeValidator(size)]
