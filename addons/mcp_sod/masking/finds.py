"""What a detector finds in a text that may go on: which part is to be hidden, and what of the text that rests on."""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mcp_sod.errors import Unavailable
from mcp_sod.masking.masks import closing
from mcp_sod.policy.patterns import LONG, TIME_LIMIT, TIME_PER_CHARACTER, Detector

HIDDEN_NAME = "hidden"
_QUOTED = re.compile(r'\\.|"[^"\\]*+(?:\\.[^"\\]*+)*+"', re.DOTALL)


class Find(NamedTuple):
    """One match: it begins at `begin` and reaches to `finish`; from `start` to `end` it hides the text.

    `finish` is None where more text could change it. Where `start` is `end`, nothing is to be hidden.
    """

    begin: int
    finish: int | None
    start: int
    end: int
    name: str


def finds(text: str, at: int, detector: Detector, name: str, *, last: bool) -> Iterator[Find]:
    """Yield what the detector finds from `at` on; `last`: nothing comes after this text.

    As in `masks`, of a field whose value is a list or an object all is hidden, up to its closing bracket.
    """
    covered = 0
    for match in _matches(text, at, detector):
        begin, finish = match.span()
        start, end = match.span(detector.group)
        if not end > start >= 0:
            yield Find(begin, finish, begin, begin, name)
        elif not detector.group or text[start] not in "[{":
            yield Find(begin, finish, start, end, name)
        elif start >= covered:
            closed = closing(text, start)
            covered = max(end, len(text) if closed is None else closed)
            settled = last or closes(text, start, closed)
            reached = max(finish, covered) if settled else None
            yield Find(begin, reached, start, covered, HIDDEN_NAME if closed is None else name)


def closes(text: str, start: int, closed: int | None) -> bool:
    """Say whether what begins at `start` ends at `closed` for good: more text could make a string of its last part."""
    return closed is not None and '"' not in _QUOTED.sub("", text[start:closed])


def _matches(text: str, at: int, detector: Detector) -> Iterator[Any]:
    if detector.linear:
        yield from detector.pattern.finditer(text, at)
        return
    limit = TIME_LIMIT + TIME_PER_CHARACTER * len(text)
    try:
        yield from detector.pattern.finditer(text, at, timeout=limit, concurrent=len(text) > LONG)
    except TimeoutError:
        raise Unavailable(f"The pattern of {detector.name} took longer than {limit * 1000:.0f} ms on a text.") from None
