"""Patterns of the policy: what is looked for, in two lanes, and one sweep that finds out which are worth a look.

RE2 takes every pattern that it can read, and searches in time linear in the text. What RE2 cannot say (look-around,
back-references) goes to the `regex` package with a time limit that fails closed: one catastrophic pattern must cost
one refused call, not the gateway.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import re2
import regex

from mcp_sod.errors import Unavailable

TIME_LIMIT = 0.02  # seconds a search of a short text in the second lane, and so how long the event loop is held
TIME_PER_CHARACTER = 2e-6  # seconds more; long messages are searched in a thread
LONG = 32 * 1024  # bytes or characters from which on a message is worth a thread
MAX_PATTERN = 2_000  # characters; compiling has no time-out, so its input is bounded
# Unicode's Default_Ignorable_Code_Point (DerivedCoreProperties): what stands in a text and is not seen.
_INVISIBLE = dict.fromkeys([
    0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x17B5, *range(0x180B, 0x1810), *range(0x200B, 0x2010),
    *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0x3164, *range(0xFE00, 0xFE10), 0xFEFF, 0xFFA0,
    *range(0xFFF0, 0xFFF9), *range(0x1BCA0, 0x1BCA4), *range(0x1D173, 0x1D17B), *range(0xE0000, 0xE1000),
])  # fmt: skip
_WHITE = [
    0xB,
    0xC,
    *range(0x1C, 0x20),
    0x85,
    0xA0,
    0x1680,
    *range(0x2000, 0x200B),
    0x2028,
    0x2029,
    0x202F,
    0x205F,
    0x3000,
]
_CONTROLS = [*range(9), *range(0xE, 0x1C), *range(0x7F, 0xA0)]
_SPACES = dict.fromkeys([*_WHITE, *_CONTROLS], " ")  # RE2's \s knows few of them; SQL's and others' parsers know more
_ODD_ASCII = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_MARKS = regex.compile(r"\p{M}{31}")
_EXPANDING = "\ufdfa\ufdfb"  # of which NFKC makes eighteen and eight characters; of any other, six at most
_MOST_EXPANDING = 1_000
# Where a pattern speaks of the text's two ends, or takes flags back, searching joined texts could miss a match.
_UNJOINABLE = re.compile(r"\\[AzZCQ]|\(\?[a-zA-Z]*-")

type Span = tuple[int, int]


@dataclass(frozen=True, slots=True, eq=False)
class Detector:
    """Something to look for in texts.

    `group` is the group of the pattern that counts. With `keywords`, one of them must be in the same text.
    """

    name: str
    pattern: Any  # re2's or regex's compiled pattern
    linear: bool
    keywords: Any = None
    group: int = 0

    def found_in(self, text: str) -> bool:
        """Say whether the text holds it, as it stands or in its plain form."""
        return bool(self.spans(text)) or ((plain := plain_form(text)) != text and bool(self.spans(plain)))

    def spans(self, text: str) -> list[Span]:
        """Return (start, end) of what is found, in characters; raises Unavailable when the search takes too long."""
        if self.keywords is not None and self.keywords.search(text) is None:
            return []
        if self.linear:
            found = [match.span(self.group) for match in self.pattern.finditer(text)]
        else:
            found = self._limited(text)
        return [(start, end) for start, end in found if end > start >= 0]

    def _limited(self, text: str) -> list[Span]:
        limit = TIME_LIMIT + TIME_PER_CHARACTER * len(text)
        matches = self.pattern.finditer(text, timeout=limit, concurrent=len(text) > LONG)
        try:
            return [match.span(self.group) for match in matches]
        except TimeoutError:
            raise Unavailable(
                f"The pattern of {self.name} took longer than {limit * 1000:.0f} ms on this text.",
                hint="Simplify the pattern in the policy; until then such calls are refused.",
            ) from None

    def clue(self) -> str | None:
        """Return a pattern for RE2 that is in every text which this detector finds something in; None if unknown."""
        source = self.keywords or (self.pattern if self.linear else None)
        if source is None or _UNJOINABLE.search(source.pattern):
            return None
        return f"(?m:{source.pattern})"


class Sweep:
    """Searches all texts of a message at once for the clues of many detectors."""

    def __init__(self, detectors: Iterable[Detector]) -> None:
        """Detectors without a clue are suspects in every message."""
        clues = [(detector, detector.clue()) for detector in detectors]
        self._always = frozenset(detector for detector, clue in clues if clue is None)
        self._clued = [detector for detector, clue in clues if clue is not None]
        self._filter = re2.Filter()
        for _, clue in clues:
            if clue is not None:
                self._filter.Add(clue, _OPTIONS)
        if self._clued:
            self._filter.Compile()

    def suspects(self, texts: Iterable[str]) -> frozenset[Detector]:
        """Return the detectors that may find something in one of the texts; the others will find nothing.

        A match inside one text is a match inside the joined ones: a line end stands between them, and `^` and `$`
        match there.
        """
        if not self._clued:
            return self._always
        joined = "\n".join(texts)
        plain = plain_form(joined)
        found = self._filter.Match(joined if plain is joined else f"{joined}\n{plain}")
        return self._always.union(self._clued[index] for index in found) if found else self._always


def detector(name: str, pattern: str | None, keywords: Iterable[str] = (), group: int = 0) -> Detector:
    """Return a compiled detector; keywords alone are what is looked for. Raises ValueError with a sentence."""
    words = "|".join(re2.escape(word) for word in keywords)
    if pattern is None:
        return Detector(name, _linear(f"(?i:{words})"), linear=True)
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"is longer than {MAX_PATTERN} characters: split it into several patterns")
    required = _linear(f"(?i:{words})") if words else None
    linear = _linear(pattern)
    made = Detector(name, linear or _limited(pattern), linear is not None, required, group)
    if made.pattern.search("") is not None:
        raise ValueError("matches the empty text, so it would match everything: make a part of it required")
    return made


def plain_form(text: str) -> str:
    """Return the text as a person, a model or a parser reads it.

    In NFKC, without invisible characters, every white space and control a plain space (but for tab and line ends).
    Raises Unavailable for text made to make normalising it slow: sorting a run of combining marks takes quadratic
    time (hence the limit of UAX #15's Stream-Safe Format), and some characters become eighteen.
    """
    if text.isascii():
        return text.translate(_SPACES) if _ODD_ASCII.search(text) else text
    visible = text.translate(_INVISIBLE)
    if _MARKS.search(visible) is not None:
        raise Unavailable("The text holds more combining marks in a row than any writing has.")
    if sum(map(visible.count, _EXPANDING)) > _MOST_EXPANDING:
        raise Unavailable("The text holds too many characters that stand for whole phrases.")
    return unicodedata.normalize("NFKC", visible).translate(_SPACES)


def globs(patterns: Iterable[str], *, fold: bool = False) -> Callable[[str], bool]:
    """Return a test for names that match any of the shell patterns (`*`, `?`, `[…]`); `fold` ignores case."""
    wanted = [pattern.lower() if fold else pattern for pattern in patterns]
    if not wanted:
        return lambda _name: False
    match = re.compile("|".join(fnmatch.translate(pattern) for pattern in wanted)).match
    if fold:
        return lambda name: match(name.lower()) is not None
    return lambda name: match(name) is not None


def plain_name(name: str) -> str:
    """Return one form for names that a lenient server could take for each other: plain, trimmed, in one case."""
    return plain_form(name).strip().casefold()


def alike(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return a test for names that match, as they stand or as a lenient server may read them: for what is barred."""
    wanted = list(patterns)
    exact, folded = globs(wanted), globs(map(plain_name, wanted))
    return lambda name: exact(name) or folded(plain_name(name))


def _options() -> Any:
    options = re2.Options()
    options.log_errors = False  # a pattern could quote a secret
    options.max_mem = 64 << 20
    return options


_OPTIONS = _options()


def _linear(pattern: str) -> Any | None:
    try:
        return re2.compile(pattern, _OPTIONS)
    except re2.error:
        return None


def _limited(pattern: str) -> Any:
    try:
        return regex.compile(pattern)
    except regex.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
