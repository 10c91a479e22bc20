"""What is fuzzed, and what must hold: each target takes any bytes, gives a word for what happened, or asserts."""

import itertools
import json
import re
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final

from mcp_sod.wire.mcp import Call

from tests.fuzz.passing import JSON_TYPE, Fields, Masks, leaks, tells, through

type Read = Callable[[bytes, Fields], Call | str]
type Target = Callable[[bytes], str]

CUTS: Final = 4  # bytes before a stream that say where it is cut
_REFERENCE: Final = re.compile(rb"x-[0-9a-f]{16}")  # the one part of an answer that is new each time


def intake(read: Read, data: bytes) -> str:
    """Reads a body, after header lines and an empty line if there are any, and compares it with a second reading."""
    head, _, body = data.partition(b"\n\n") if b"\n\n" in data else (b"", b"", data)
    fields = tuple((name, value) for name, _, value in (line.partition(b": ") for line in head.split(b"\n")) if name)
    call = read(body, (*JSON_TYPE, *fields))
    if isinstance(call, str):
        return call
    again = read_again(body)
    assert alike(call.message, again), (call.message, again)
    assert call.method == again.get("method", "response"), call.method
    return call.kind


def masker(masks: Callable[[], Masks], data: bytes) -> str:
    """Masks a stream whole, and cut at the places that its first bytes say; no secret comes out, either way alike."""
    stream = data[CUTS:]
    at = sorted({0, len(stream), *(place * len(stream) // 255 for place in data[:CUTS])})
    chunks = [stream[start:end] for start, end in itertools.pairwise(at)]
    whole = through(masks(), [stream, b""])  # the empty chunk is mitmproxy's word for the end
    pieces = through(masks(), [*chunks, b""])
    assert _REFERENCE.sub(b"x", whole) == _REFERENCE.sub(b"x", pieces), (whole, pieces)
    assert not leaks(whole), whole
    said = [json.loads(message) for message in filter(None, map(_data, whole.split(b"\n\n")))]
    for message in said:
        assert not any(map(tells, _texts(message))), message
    return _how_it_ended(said[-1]) if said else "nothing"


def read_again(body: bytes) -> Any:
    """What a second strict reader makes of a body: UTF-8, no key twice, no NaN."""
    return json.loads(body.decode(), object_pairs_hook=_once, parse_constant=_no_constant)


def alike(one: Any, other: Any) -> bool:
    """Whether two readings are the same value, whatever the types of their numbers."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, bool) or isinstance(other, bool) or not isinstance(one, int | Decimal):
        return type(one) is type(other) and one == other
    if isinstance(one, Decimal) and isinstance(other, float):
        return float(one) == other
    return bool(one == other)


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    assert len({name for name, _ in pairs}) == len(pairs), "a key twice"
    return dict(pairs)


def _no_constant(name: str) -> None:
    raise AssertionError(name)


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for key, item in value.items() for text in (key, *_texts(item))]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    return [value] if isinstance(value, str) else []


def _data(event: bytes) -> bytes:
    return b"\n".join(line[6:] for line in event.split(b"\n") if line.startswith(b"data: "))


def _how_it_ended(message: Any) -> str:
    """The sentence of a refusal, or the names in the message."""
    texts = _texts(message)
    return next(
        (text.partition(" (reference")[0] for text in texts if " (reference" in text), " ".join(sorted(message))
    )
