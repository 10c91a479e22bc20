"""The forms in which a text may be read, and where in the text each of their characters comes from."""

import re
from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from typing import NamedTuple

import regex

from mcp_sod.masking.masks import ESCAPED
from mcp_sod.policy.patterns import plain_form

# What is read together with the character before it: marks, the later letters of a Korean syllable, the unseen.
_FOLLOWS = r"\p{M}\p{Default_Ignorable_Code_Point}\u1160-\u11ff\ud7b0-\ud7fb\uff9e-\uffdc"
# Letters whose plain form is themselves, one by one; or one character and what follows it.
_RUN = regex.compile(
    rf"(?P<same>[\t\n\r\x20-\x7e\xc0-\u0131\u0400-\u045f\u3041-\u3094\u30a1-\u30fa\u4e00-\u9fff\uac00-\ud7a3]+"
    rf"(?![{_FOLLOWS}]))|(?P<seen>.(?:[{_FOLLOWS}]*[{_FOLLOWS}--\p{{Default_Ignorable_Code_Point}}])?)[{_FOLLOWS}]*",
    regex.DOTALL | regex.V1,
)
_LAST = regex.compile(rf"(?r)[^{_FOLLOWS}][{_FOLLOWS}]*", regex.DOTALL)
_HIGH, _LOW = r"\\u([dD][89abAB][0-9a-fA-F]{2})", r"\\u([dD][c-fC-F][0-9a-fA-F]{2})"
_ESCAPE = re.compile(rf"{_HIGH}{_LOW}|\\u([0-9a-fA-F]{{4}})|\\[^u]", re.DOTALL)
_HALF_ESCAPE = re.compile(
    r"\\(?:u(?:[0-9a-fA-F]{0,3}|[dD][89abAB][0-9a-fA-F]{2}(?:\\(?:u(?:[dD](?:[c-fC-F][0-9a-fA-F]?)?)?)?)?))?\Z"
)


class _Runs(NamedTuple):
    """The parts of a form: where each begins in it, where it begins and ends in its level, and if they are the same."""

    plain: list[int]
    level: list[int]
    ends: list[int]  # without the unseen that follows
    same: list[bool]


@dataclass(slots=True)
class Reading:
    """One form of a text: `text` is what is searched; `level` what it is the plain form of.

    `sources`: where in the original each character of `level` comes from, and its end; None: the original is `level`.
    """

    text: str
    level: str
    sources: list[int] | None = None
    _runs: _Runs | None = field(default=None)

    def place(self, source: int) -> int:
        """Return where in this form a place of the original stands, or what it was read together with begins."""
        at = source if self.sources is None else bisect_left(self.sources, source)
        if self.text == self.level:
            return at
        runs = self._map()
        run = bisect_right(runs.level, at) - 1
        return runs.plain[run] + (at - runs.level[run] if runs.same[run] else 0)

    def span(self, start: int, end: int) -> tuple[int, int]:
        """Return the part of the original that a part of this form was read from."""
        return self.source(start), self.source(end, up=True)

    def source(self, at: int, *, up: bool = False) -> int:
        """Return where a character of this form comes from; `up`: where the one before it ends."""
        if self.text != self.level:
            runs = self._map()
            run = (bisect_left if up else bisect_right)(runs.plain, at) - 1
            if runs.same[run]:
                at += runs.level[run] - runs.plain[run]
            else:
                at = runs.ends[run] if up and run >= 0 else runs.level[run]
        return at if self.sources is None else self.sources[at]

    def whole(self, source: int) -> int:
        """Return the last place at or before `source` where nothing that is read together is cut in two."""
        at = source if self.sources is None else bisect_right(self.sources, source) - 1
        if 0 < at < len(self.level) and not self.level.isascii():
            before = _LAST.search(self.level, 0, at + 1)
            at = before.start() if before is not None else 0
        return at if self.sources is None else self.sources[at]

    def _map(self) -> _Runs:
        if self._runs is None:
            runs = _Runs([0], [0], [], [])
            for run in _RUN.finditer(self.level):
                plain = run[0] if run["same"] else plain_form(run[0])
                runs.same.append(plain == run[0])
                runs.plain.append(runs.plain[-1] + len(plain))
                runs.level.append(run.end())
                runs.ends.append(run.end("same" if run["same"] else "seen"))
            runs.same.append(False)
            runs.ends.append(len(self.level))
            self._runs = runs
        return self._runs


def aligned(text: str) -> list[Reading]:
    """Return the text as it stands, and the forms of `masks.readings` that differ from it."""
    found = [Reading(text, text)]
    plain = plain_form(text)
    if plain != text:
        found.append(Reading(plain, text))
    level, sources = text, list(range(len(text) + 1)) if "\\" in text else []
    for _ in range(ESCAPED):
        if "\\" not in level:
            break
        level, sources = _unescaped(level, sources)
        found.append(Reading(plain_form(level), level, sources))
    return found


def half_read(readings_: list[Reading]) -> int | None:
    """Return where an escape begins that the end of the text cuts in two, in any of its forms."""
    ends = [
        reading.sources[half.start()] if reading.sources else half.start()
        for reading in readings_
        if (half := _HALF_ESCAPE.search(reading.level)) is not None
    ]
    return min(ends, default=None)


def last_letter(text: str) -> int:
    """Return where the last character begins, with all that is read together with it."""
    last = _LAST.search(text)
    return last.start() if last is not None else 0


def _unescaped(text: str, sources: list[int]) -> tuple[str, list[int]]:
    pieces: list[str] = []
    where: list[int] = []
    at = 0
    for escape in _ESCAPE.finditer(text):
        pieces += [text[at : escape.start()], _meant(escape)]
        where += [*sources[at : escape.start()], sources[escape.start()]]
        at = escape.end()
    return "".join([*pieces, text[at:]]), where + sources[at:]


_MEANT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}


def _meant(escape: re.Match[str]) -> str:
    if escape[1]:
        return chr(0x10000 + ((int(escape[1], 16) & 0x3FF) << 10) + (int(escape[2], 16) & 0x3FF))
    if not escape[3]:
        return _MEANT.get(escape[0][1], escape[0][1])
    letter = chr(int(escape[3], 16))
    return "\ufffd" if "\ud800" <= letter <= "\udfff" else letter
