"""Canonical JSON: one value, one sequence of bytes."""

import orjson

from mcp_sod.errors import AuditError

_LARGEST = 2**53 - 1  # RFC 7493, section 2.2: what every reader of JSON can hold exactly


def canonical(value: dict[str, object]) -> bytes:
    """Return the RFC 8785 form of a value made of str, int, bool, None, and lists and dicts of those.

    For these values, with ASCII keys, orjson writes exactly what RFC 8785 asks for, at a tenth of the cost of a general
    encoder. Everything else (floats, lone surrogates) is an AuditError.
    """
    try:
        _check(value)
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
    except TypeError:  # orjson's own error is one
        raise _refused("a key that is not a string, a lone surrogate, or too deep a nesting") from None


def _check(record: dict[str, object]) -> None:
    """Look at every value once, without a call for each: this is on the path of every request."""
    values: list[object] = [record]
    for value in values:  # which grows while it is walked
        if type(value) is str:
            continue
        if isinstance(value, dict):
            if not "".join(value).isascii():  # all keys at once; a key that is no string is a TypeError
                raise _refused("a key that is not ASCII")
            values += value.values()
        elif isinstance(value, list | tuple):
            values += value
        elif isinstance(value, int):
            if not -_LARGEST <= value <= _LARGEST:
                raise _refused("an integer beyond 2^53 - 1")
        elif value is not None and not isinstance(value, str):  # a StrEnum is written as its text
            raise _refused(f"a {type(value).__name__}")


def _refused(what: str) -> AuditError:
    return AuditError(f"A record holds {what}, which canonical JSON cannot carry.")
