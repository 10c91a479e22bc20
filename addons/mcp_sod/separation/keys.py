"""Objects' keys, out of arguments and results, in one spelling each."""

import hashlib
import re
import unicodedata
import uuid
from collections.abc import Iterator, Mapping
from decimal import Decimal

from mcp_sod.errors import Denied, SodError
from mcp_sod.policy.patterns import plain_form, plain_name
from mcp_sod.wire.strict_json import Json, parse_text

MOST_OBJECTS = 256  # that one call may act upon
_COUNTED = re.compile(r"([+-]?)([0-9][0-9_]*)(?:\.[0_]*)?")
_BASED = re.compile(r"[+-]?0(?:x[0-9a-f]{1,64}|o[0-7]{1,64}|b[01]{1,64})")
_NUMERIC = re.compile(r"[+-]?(?:[0-9][0-9_]*+(?:\.[0-9_]*+)?|\.[0-9][0-9_]*+)(?:e[+-]?[0-9_]+)?")
_CONSTANTS = frozenset({"true", "false", "null", "nan", "infinity", "-infinity"})
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

    Whole numbers and their digits are one key, with or without a sign, leading zeros, `_`, `.0` or `0x`; so are the
    forms of one UUID (RFC 9562, section 4). Case and invisible characters tell no two apart. A text that servers may
    read as JSON (the SDKs do, where a parameter is no text) is no key.
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
    if not plain.isascii():
        plain = "".join(str(unicodedata.decimal(one, one)) for one in plain)
    if counted := _COUNTED.fullmatch(plain):
        return _counted(counted[2].replace("_", ""), counted[1])
    if _BASED.fullmatch(plain):
        return str(int(plain, 0))
    if (known := _uuid(plain)) is not None:
        return _counted(known) if known.isdecimal() else known
    if plain.startswith(("[", "{", '"')) or plain in _CONSTANTS or _NUMERIC.fullmatch(plain):
        raise Denied("it is a text that some servers read as JSON or as a number, and not as it stands.")
    return plain


def _counted(digits: str, sign: str = "") -> str:
    whole = digits.lstrip("0") or "0"
    return f"-{whole}" if sign == "-" and whole != "0" else whole


def _uuid(plain: str) -> str | None:
    """Return the 32 digits of a UUID in any form that parsers take: with `urn:uuid:`, hyphens, braces, brackets."""
    try:
        return uuid.UUID(plain.strip("()")).hex
    except ValueError:
        return None


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
