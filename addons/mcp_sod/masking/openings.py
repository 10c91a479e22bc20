"""Where in a text something may begin that more text would complete: what a stream must not show yet.

From a pattern another one is made, of all that its matches may begin with, which is then searched up to the text's end
in the same lane: in RE2 that takes linear time. (The partial matching of `regex` would not do: at the end of a text it
takes word boundaries and line ends for decided.)
"""

import functools
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import re2
import regex

from mcp_sod.masking.masks import Masks
from mcp_sod.policy.patterns import TIME_LIMIT, TIME_PER_CHARACTER

_FLAGS_FIRST = re.compile(r"\(\?([imsU]+)\)")
_TOKEN = re.compile(
    r"""(?P<group>\((?:\?(?:(?P<named>P?<(?P<name>\w+)>)|(?P<flags>[imsU-]*):|>|(?P<ahead>[=!])|(?P<behind><[=!])))?(?!\?))
    | (?P<end>\)) | (?P<or>\|) | (?P<start>\^|\\A)
    | (?P<repeat>[*+?]\??|\{(?P<least>\d+)(?P<more>,(?P<most>\d*))?\}\??)
    | \\(?P<number>[1-9])(?!\d) | \(\?P=(?P<again>\w+)\)
    | (?P<atom>\\(?:[pP]\{\^?\w+\}|[pP]\w|x\{[0-9A-Fa-f]+\}|x[0-9A-Fa-f]{2}|[0-7]{1,3}|[dDsSwWbBzZafnrtv]|[^0-9A-Za-z])
            | \[\^?\]?(?:\[:\^?\w+:\]|\\.|[^\]\\])*\]
            | [^\\()|])
    """,
    re.VERBOSE | re.DOTALL,
)


class _Part(NamedTuple):
    """A part of a pattern, and what its matches begin with when text is cut off in it (None: it needs no more)."""

    whole: str
    begun: str | None


@dataclass(frozen=True, slots=True)
class Openings:
    """What the detectors of some masks may still find where a text goes on.

    `found`: RE2's search for anything that one of those in its lane finds; None if they do not go together.
    """

    found: Any | None
    linear: tuple[Any, ...]
    limited: tuple[Any, ...]  # of `regex`
    unknown: bool  # one of the patterns is such that all must be held

    def first(self, text: str, start: int, given_up: set[Any]) -> int:
        """Return where the first of them begins at or after `start`; the text's end if there is none.

        `given_up`: those that took too long on this text before; they may begin anywhere.
        """
        if self.unknown or given_up:
            return start
        begins = [found.start() for opening in self.linear if (found := opening.search(text, start)) is not None]
        for opening in self.limited:
            limit = TIME_LIMIT + TIME_PER_CHARACTER * len(text)
            try:
                found = opening.search(text, start, timeout=limit)
            except TimeoutError:
                given_up.add(opening)
                return start
            begins += [found.start()] if found is not None else []
        return min(begins, default=len(text))


@functools.lru_cache(maxsize=256)
def openings(masks: Masks) -> Openings:
    """Return the openings of all detectors of some masks, and of the keywords that must stand beside them."""
    detectors = {detector for mask in masks.masks for detector in mask.detectors}
    sources = [(detector.pattern.pattern, detector.linear) for detector in detectors]
    sources += [(detector.keywords.pattern, True) for detector in detectors if detector.keywords is not None]
    begun = {(source, linear): opening_of(source, linear=linear) for source, linear in sorted(sources)}
    of_re2 = [opening for (_, linear), opening in begun.items() if linear and opening is not None]
    limited = [regex.compile(opening) for (_, linear), opening in begun.items() if not linear and opening is not None]
    together = "|".join(f"(?:{detector.pattern.pattern})" for detector in detectors if detector.linear)
    return Openings(
        _compiled(together) if together else None, tuple(_joined(of_re2)), tuple(limited), None in begun.values()
    )


def opening_of(source: str, *, linear: bool = True) -> str | None:
    """Return a pattern for all that a match of a pattern may begin with, up to the text's end; None if unknown.

    `linear`: whether it is RE2's; of what only `regex` reads, look-around, references back and atomic groups are known.
    """
    flags = _FLAGS_FIRST.match(source)
    body = source[flags.end() :] if flags else source
    try:
        part, end = _Parser(body, linear=linear).alternatives(0)
    except (_NotKnownError, RecursionError):
        return None
    if end != len(body) or part.begun is None:
        return None
    begun = rf"(?{flags[1] if flags else ''}:{part.begun})\{'z' if linear else 'Z'}"
    if linear:
        return begun if _compiled(begun) is not None else None
    try:
        return regex.compile(begun).pattern
    except regex.error:
        return None


class _NotKnownError(Exception):
    pass


@dataclass(slots=True)
class _Parser:
    source: str
    linear: bool
    groups: list[_Part | None] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)

    def alternatives(self, at: int) -> tuple[_Part, int]:
        """Return what stands between the brackets of a group, and where they close."""
        branches: list[_Part] = []
        parts: list[_Part] = []
        while at < len(self.source):
            token = _TOKEN.match(self.source, at)
            if token is None:
                raise _NotKnownError
            if token["end"]:
                break
            if token["group"]:
                part, at = self._group(token)
                parts.append(part)
                continue
            at = token.end()
            if token["or"]:
                branches.append(_sequence(parts))
                parts = []
            elif token["repeat"]:
                if not parts:
                    raise _NotKnownError
                parts.append(_repeated(parts.pop(), token))
                at += not self.linear and self.source[at : at + 1] == "+"  # possessive
            else:
                parts.append(self._atom(token))
        branches.append(_sequence(parts))
        begun = [branch.begun for branch in branches if branch.begun is not None]
        return _Part("|".join(branch.whole for branch in branches), "|".join(begun) if begun else None), at

    def _group(self, token: re.Match[str]) -> tuple[_Part, int]:
        number = None
        if token[0] == "(" or token["named"]:
            number = len(self.groups)
            self.groups.append(None)
            self.names |= {token["name"]: number} if token["name"] else {}
        inner, at = self.alternatives(token.end())
        if self.source[at : at + 1] != ")":
            raise _NotKnownError
        part = _wrapped(inner, token["flags"] or "")
        if token["behind"]:
            part = _Part("", None)  # decided by what stands there already
        elif token["ahead"]:
            part = _Part("", part.begun)
        if number is not None:
            self.groups[number] = part
        return part, at + 1

    def _atom(self, token: re.Match[str]) -> _Part:
        if token["number"] or token["again"]:
            number = int(token["number"]) - 1 if token["number"] else self.names.get(token["again"], -1)
            group = self.groups[number] if 0 <= number < len(self.groups) else None
            if group is None:
                raise _NotKnownError
            return group  # at least what the group may be
        if not self.linear and token[0] == "{":
            raise _NotKnownError  # approximate matching, or a count written in another way
        if not self.linear and token[0] == "$":
            return _Part("$", r"\n?")  # before a line end it is the end of the text only if nothing follows
        return _Part(token[0], None if token["start"] else "")


def _wrapped(part: _Part, flags: str) -> _Part:
    return _Part(f"(?{flags}:{part.whole})", None if part.begun is None else f"(?{flags}:{part.begun})")


def _repeated(part: _Part, token: re.Match[str]) -> _Part:
    whole = part.whole + token[0]
    counted = token["most"] if token["more"] else token["least"]
    most = "1" if token[0][0] == "?" else counted or ""
    if part.begun is None or most == "0":
        return _Part(whole, None)
    before = {"": f"(?:{part.whole})*", "1": ""}.get(most, f"(?:{part.whole}){{0,{int(most or 1) - 1}}}")
    return _Part(whole, f"{before}(?:{part.begun})")


def _sequence(parts: list[_Part]) -> _Part:
    begun: str | None = None
    for part in reversed(parts):
        if begun is None:
            begun = part.begun
        else:
            begun = f"{part.whole}{begun}" if part.begun is None else f"(?:{part.begun}|{part.whole}{begun})"
    return _Part("".join(part.whole for part in parts), begun)


def _joined(openings_: list[str]) -> Iterable[Any]:
    """Return as few searches as can be: one, unless the joined pattern is too large."""
    together = _compiled("|".join(openings_)) if openings_ else None
    return [_compiled(opening) for opening in openings_] if together is None else [together]


def _compiled(pattern: str) -> Any | None:
    options = re2.Options()
    options.log_errors = False  # a pattern could quote a secret
    options.max_mem = 64 << 20
    try:
        return re2.compile(pattern, options)
    except re2.error:
        return None
