"""Changes single values inside a JSON text and leaves every other byte as it came."""

import re
from collections.abc import Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]  # C-accelerated, exported but not typed
from typing import Final

from mcp_sod.errors import Withheld
from mcp_sod.wire.strict_json import Path

_BLANK = re.compile(r"[ \t\r\n]*").match
_SCALAR = re.compile(r"[-+.0-9eEa-z]+").match  # numbers, true, false, null

NAME: Final = -1  # as the last part of a path: the member's name, not its value

type Span = tuple[int, int]


def splice(text: str, changes: Mapping[Path, str]) -> str:
    """Return the text with the values (or names) at some paths replaced by other JSON texts.

    `text` is one strict JSON value. Raises Withheld when a path is not there: a change that cannot be made must
    not pass for one that was.
    """
    found = spans(text, set(changes))
    if len(found) != len(changes):
        raise Withheld("A value that must be masked could not be found again in the reply.")
    pieces, at = [], 0
    for path, (start, end) in sorted(found.items(), key=lambda item: item[1]):
        if start < at:
            continue  # inside a value that is replaced as a whole
        pieces += [text[at:start], changes[path]]
        at = end
    return "".join([*pieces, text[at:]])


def spans(text: str, wanted: set[Path]) -> dict[Path, Span]:
    """Return where in the text the values of some paths stand, as (start, end) in characters."""
    found: dict[Path, Span] = {}
    _scan(text, _skip(text, 0), (), wanted, found)
    return found


def _scan(text: str, at: int, path: Path, wanted: set[Path], found: dict[Path, Span]) -> int:
    """Walk one value that begins at `at`; return where it ends. Depth was bounded when the text was parsed."""
    match text[at]:
        case "{":
            end = _members(text, at, path, wanted, found)
        case "[":
            end = _elements(text, at, path, wanted, found)
        case '"':
            end = scanstring(text, at + 1)[1]
        case _:
            scalar = _SCALAR(text, at)
            assert scalar is not None  # the text was parsed before
            end = scalar.end()
    if path in wanted:
        found[path] = (at, end)
    return end


def _members(text: str, at: int, path: Path, wanted: set[Path], found: dict[Path, Span]) -> int:
    at = _skip(text, at + 1)
    while text[at] != "}":
        (key, end), there = scanstring(text, at + 1), at
        here = (*path, key)
        if (*here, NAME) in wanted:
            found[*here, NAME] = (there, end)
        at = _skip(text, _skip(text, end) + 1)  # over the colon
        at = _skip(text, _scan(text, at, here, wanted, found))
        if text[at] == ",":
            at = _skip(text, at + 1)
    return at + 1


def _elements(text: str, at: int, path: Path, wanted: set[Path], found: dict[Path, Span]) -> int:
    at, index = _skip(text, at + 1), 0
    while text[at] != "]":
        at = _skip(text, _scan(text, at, (*path, index), wanted, found))
        if text[at] == ",":
            at = _skip(text, at + 1)
        index += 1
    return at + 1


def _skip(text: str, at: int) -> int:
    blank = _BLANK(text, at)
    assert blank is not None
    return blank.end()
