"""Objects' keys, out of arguments and results, in one spelling each."""

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping
from decimal import Decimal

from mcp_sod.errors import Denied, SodError
from mcp_sod.policy.patterns import plain_form, plain_name
from mcp_sod.wire.strict_json import Json, parse_text

MOST_OBJECTS = 256  # that one call may act upon
_COUNTED = re.compile(r"\+?(\d+)")
_EXACT = 2**53  # from here on, parsers with doubles take one number for another (RFC 7493, section 2.2)


def tokens(key: str) -> tuple[str, ...]:
    """Return the tokens of the JSON pointer (RFC 6901) in `arguments:/…` or `result:/…`."""
    _, _, pointer = key.partition(":/")
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/"))


def digests_at(value: Json, path: tuple[str, ...]) -> frozenset[str]:
    """Return the digests of the keys there, one or a list of them; raises Denied where there are none to tell."""
    found = _at(value, path)
    keys = found if isinstance(found, list) else [found]
    if not keys:
        raise Denied("the list is empty.")
    if len(keys) > MOST_OBJECTS:
        raise Denied(f"there are more than {MOST_OBJECTS}.")
    return frozenset(map(digest, keys))


def objects_in(result: Mapping[str, Json], key: str, depth: int) -> frozenset[str] | None:
    """Return the objects that a tool's raw result names at `result:/…`, or None where it names none.

    The pointer leads into `structuredContent`, or else into the JSON of the first text (MCP, structured content).
    """
    for where in _readings(result, depth):
        try:
            return digests_at(where, tokens(key))
        except SodError:
            continue
    return None


def digest(key: Json) -> str:
    """Return the hex SHA-256 of an object's key in its one spelling; raises Denied where the value is no key.

    Whole numbers and their digits are one key; case, invisible characters and leading zeros tell no two apart.
    """
    return hashlib.sha256(_spelled(key).encode()).hexdigest()


def _at(value: Json, path: tuple[str, ...]) -> Json:
    """Return what a JSON pointer (RFC 6901) leads to; raises Denied where that is nothing, or two things."""
    for token in path:
        match value:
            case dict():
                _unambiguous(value, token)
                value = value[token]
            case list() if re.fullmatch(r"0|[1-9][0-9]{0,8}", token) and int(token) < len(value):
                value = value[int(token)]
            case _:
                raise Denied("there is nothing.")
    return value


def _unambiguous(value: dict[str, Json], token: str) -> None:
    """Raise Denied unless every server would find the same there: some read keys in any case, the last one winning."""
    if token not in value:
        raise Denied("there is nothing.")
    wanted = plain_name(token)
    if any(name != token and plain_name(name) == wanted for name in value):
        raise Denied("a key beside it differs in its spelling alone.")


def _spelled(key: Json) -> str:
    if isinstance(key, int | Decimal) and not isinstance(key, bool):
        spelled = _whole(key)
    else:
        spelled = _plain(key) if isinstance(key, str) else None
    if not spelled:
        raise Denied("it is neither a text nor a whole number that all parsers read alike.")
    return spelled


def _whole(key: int | Decimal) -> str | None:
    return str(int(key)) if -_EXACT < key < _EXACT and key == int(key) else None


def _plain(text: str) -> str:
    plain = plain_form(plain_form(text).strip().casefold()).strip()  # folding may undo NFKC (Unicode, D145)
    digits = _COUNTED.fullmatch(plain)
    if digits is None:
        return plain
    return "".join(str(unicodedata.decimal(digit)) for digit in digits[1]).lstrip("0") or "0"


def _readings(result: Mapping[str, Json], depth: int) -> Iterator[Json]:
    if "structuredContent" in result:
        yield result["structuredContent"]
    content = result.get("content")
    for item in content if isinstance(content, list) else ():
        if isinstance(item, dict) and item.get("type") == "text":
            if isinstance(text := item.get("text"), str):
                try:
                    yield parse_text(text, depth)
                except SodError:
                    return
            return
