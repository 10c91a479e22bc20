"""Strict JSON: I-JSON (RFC 7493), one message understood in one way.

Number tokens survive as `Decimal` and `int`, so that a canonical form tells apart what another parser might:
`0.1` and `0.10000000000000000001` are the same double, but not the same call.
"""

import json
import re
from decimal import Decimal, InvalidOperation
from typing import NamedTuple, TypeIs

from mcp_sod.errors import Malformed

type Json = None | bool | int | Decimal | str | list[Json] | dict[str, Json]
type Path = tuple[str | int, ...]

MAX_DEPTH = 64
_LONG_NUMBER = 64  # digits
# A few bytes make a value, and each value costs time on the one event loop: these bound it to some tenths of a second.
MAX_CONTAINERS = 200_000
MAX_COMMAS = 500_000
_SURROGATE_ESCAPE = re.compile(r"\\u[dD][89a-fA-F]")


def parse(raw: bytes, max_depth: int = MAX_DEPTH) -> Json:
    """Return the value that the bytes say; raises Malformed for anything that two parsers could read differently.

    Refused: other charsets than UTF-8, a byte-order mark, duplicate keys, lone surrogates, NaN and Infinity,
    numbers that cannot be kept exactly, and nesting beyond `max_depth`.
    """
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Malformed("The message is not UTF-8.", hint="Send UTF-8 without a byte-order mark.") from None
    return parse_text(text, max_depth)


def parse_text(text: str, max_depth: int = MAX_DEPTH) -> Json:
    """Return the value of a JSON text, as `parse` does for bytes."""
    containers = text.count("[") + text.count("{")
    if containers > MAX_CONTAINERS or text.count(",") > MAX_COMMAS:
        raise Malformed("The message holds more values than are read here.", hint="Send less at once.")
    try:
        value: Json = _DECODER.decode(text)
    except RecursionError:
        raise _too_deep(max_depth) from None
    except (ValueError, InvalidOperation) as error:
        # Only our own sentences are repeated: the decoder's would quote the payload's keys.
        why = str(error) if isinstance(error, _NotStrict) else "it does not parse"
        raise Malformed(f"The message is not strict JSON: {why}.") from None
    # A value cannot be nested deeper than it has brackets; most messages need no walk.
    if containers > max_depth and _deeper_than(value, max_depth):
        raise _too_deep(max_depth)
    if _SURROGATE_ESCAPE.search(text) is not None:
        _no_lone_surrogates(value)
    return value


def canonical(value: Json) -> bytes:
    """Return the one form of a value, for digests: sorted keys, no spaces, every digit of every number kept.

    It is not itself JSON where the value has decimals: those stand as an object whose key is a lone surrogate,
    which no value that `parse` lets through can hold, so two different values never share a form.
    """
    return _CANONICAL.encode(value).encode("utf-8", "surrogatepass")


def dumps(value: object) -> str:
    """Return a plain value (no decimals) as compact JSON text."""
    return _COMPACT.encode(value)


class Texts(NamedTuple):
    """All text of a value: strings and numbers with their paths, and keys with the paths of their values."""

    leaves: list[tuple[Path, str]]
    keys: list[tuple[Path, str]]

    def plain(self) -> list[str]:
        """Return the texts alone."""
        return [text for found in self for _, text in found]


def texts(value: Json, path: Path = ()) -> Texts:
    """Return all text of a value that stands at `path`."""
    leaves: list[tuple[Path, str]] = []
    keys: list[tuple[Path, str]] = []
    todo: list[tuple[Path, Json]] = [(path, value)]
    while todo:
        where, item = todo.pop()
        if isinstance(item, str):
            leaves.append((where, item))
        elif isinstance(item, dict):
            for key, inner in item.items():
                there = (*where, key)
                keys.append((there, key))
                if isinstance(inner, str):
                    leaves.append((there, inner))
                elif isinstance(inner, dict | list):
                    todo.append((there, inner))
                elif _is_number(inner):
                    leaves.append((there, digits(inner)))
        elif isinstance(item, list):
            todo.extend(((*where, index), inner) for index, inner in enumerate(item))
        elif _is_number(item):
            leaves.append((where, digits(item)))
    return Texts(leaves, keys)


def digits(number: int | Decimal) -> str:
    """Return a number with all its digits in a row (4.1e3 as 4100), unless its exponent would make that long."""
    if isinstance(number, Decimal) and abs(number.adjusted()) < _LONG_NUMBER:
        return format(number, "f")
    return str(number)


def _is_number(value: Json) -> TypeIs[int | Decimal]:
    return isinstance(value, int | Decimal) and not isinstance(value, bool)


def pointer(path: Path) -> str:
    """Return a path as a JSON pointer (RFC 6901)."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in path)


class _NotStrict(ValueError):
    pass


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    built = dict(pairs)
    if len(built) != len(pairs):
        raise _NotStrict("an object has the same key twice")
    return built


def _constant(name: str) -> Json:
    raise _NotStrict(f"{name} is not a JSON number")


_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_constant, parse_float=Decimal)
_COMPACT = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))
_CANONICAL = json.JSONEncoder(
    ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=lambda number: {"\ud800": str(number)}
)


def _too_deep(max_depth: int) -> Malformed:
    return Malformed(f"The message is nested deeper than {max_depth} levels.")


def _deeper_than(value: Json, most: int) -> bool:
    level: list[Json] = [value]
    for _ in range(most):
        level = [inner for item in level if isinstance(item, dict | list) for inner in _inside(item)]
    return any(isinstance(item, dict | list) for item in level)


def _inside(item: dict[str, Json] | list[Json]) -> list[Json]:
    return list(item.values()) if isinstance(item, dict) else item


def _no_lone_surrogates(value: Json) -> None:
    try:
        "".join(texts(value).plain()).encode()
    except UnicodeEncodeError:
        raise Malformed("The message is not strict JSON: a string has a lone surrogate.") from None
