"""Patterns of the policy, compiled once, searched with a time limit that fails closed.

The `regex` package is used because the standard `re` has no time-out: one catastrophic pattern in a policy
must cost one refused call, not the gateway.
"""

import fnmatch
import re
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import regex

from mcp_sod.errors import Unavailable

TIME_LIMIT = 0.02  # seconds a search of a short text, and so how long the event loop is held at worst
TIME_PER_CHARACTER = 2e-6  # seconds more; long texts are searched in a thread (see LONG)
LONG = 32 * 1024  # bytes or characters from which on a message is worth a thread
MAX_PATTERN = 2_000  # characters; compiling has no time-out, so its input is bounded
_INVISIBLE = dict.fromkeys([*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2065), 0xFEFF, 0xAD])


@dataclass(frozen=True, slots=True)
class Detector:
    """Something to look for in texts: a pattern, or any of some keywords (case-insensitive), or both."""

    name: str
    pattern: regex.Pattern[str] | None
    keywords: tuple[str, ...]

    def found_in(self, text: str) -> bool:
        """Say whether the text holds it, as it stands or in its plain form (NFKC, no invisible characters)."""
        return any(True for _ in self.spans(text)) or (
            (plain := plain_form(text)) != text and any(True for _ in self.spans(plain))
        )

    def spans(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield (start, end) of what is found; raises Unavailable when the search takes too long."""
        if self.keywords:
            lowered = text.lower()
            for word in self.keywords:
                yield from _occurrences(word, lowered)
        if self.pattern is not None:
            try:
                limit = TIME_LIMIT + TIME_PER_CHARACTER * len(text)
                for match in self.pattern.finditer(text, timeout=limit, concurrent=len(text) > LONG):
                    if match.end() > match.start():
                        yield match.span()
            except TimeoutError:
                raise Unavailable(
                    f"The pattern of {self.name} took longer than {limit * 1000:.0f} ms on this text.",
                    hint="Simplify the pattern in the policy; until then such calls are refused.",
                ) from None


def plain_form(text: str) -> str:
    """Return the text in NFKC without invisible characters: what a person or a model would read."""
    if text.isascii():
        return text
    return unicodedata.normalize("NFKC", text.translate(_INVISIBLE))


def compile_regex(source: str) -> regex.Pattern[str]:
    """Compile a pattern of the policy; raises ValueError with a sentence."""
    if len(source) > MAX_PATTERN:
        raise ValueError(f"is longer than {MAX_PATTERN} characters: split it into several patterns")
    try:
        compiled = regex.compile(source)
    except regex.error as error:
        raise ValueError(f"is not a regular expression: {error}") from None
    if compiled.search("") is not None:
        raise ValueError("matches the empty text, so it would match everything: make a part of it required")
    return compiled


def globs(patterns: Iterable[str], *, fold: bool = False) -> Callable[[str], bool]:
    """Return a test for names that match any of the shell patterns (`*`, `?`, `[…]`); `fold` ignores case."""
    wanted = [pattern.lower() if fold else pattern for pattern in patterns]
    if not wanted:
        return lambda _name: False
    match = re.compile("|".join(fnmatch.translate(pattern) for pattern in wanted)).match
    if fold:
        return lambda name: match(name.lower()) is not None
    return lambda name: match(name) is not None


def _occurrences(word: str, lowered: str) -> Iterator[tuple[int, int]]:
    at = lowered.find(word)
    while at >= 0:
        yield at, at + len(word)
        at = lowered.find(word, at + len(word))
