"""Points in time as records show them."""

import time


class Stamp:
    """Writes points in time as RFC 3339 in UTC with microseconds; the text of the last second is kept for the next."""

    def __init__(self) -> None:
        """Start without a second."""
        self._second = -1
        self._text = ""

    def __call__(self, seconds: float) -> str:
        """Return the text of a point in time, given in seconds since 1970."""
        micros = round(seconds * 1_000_000)
        second, micro = divmod(micros, 1_000_000)
        if second != self._second:
            self._second = second
            self._text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._text}.{micro:06}Z"
