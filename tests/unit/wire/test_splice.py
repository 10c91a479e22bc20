"""Splicing."""

import json
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.errors import Withheld
from mcp_sod.wire.splice import NAME, spans, splice
from mcp_sod.wire.strict_json import Json, Path, parse_text

from tests.unit.wire.json_values import VALUES, same, written


def paths(value: Json, path: Path = ()) -> Iterator[Path]:
    """Every path of a value, its own first."""
    yield path
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from paths(inner, (*path, key))
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            yield from paths(inner, (*path, index))


def put(value: Json, path: Path, new: Json) -> Json:
    """The value with another one at a path."""
    if not path:
        return new
    head, *rest = path
    match value:
        case dict():
            return {key: put(inner, tuple(rest), new) if key == head else inner for key, inner in value.items()}
        case list():
            return [put(inner, tuple(rest), new) if at == head else inner for at, inner in enumerate(value)]
    raise AssertionError(path)


@given(st.data(), VALUES)
def test_one_value_changes_and_every_other_byte_stays(data: st.DataObject, value: Json) -> None:
    """The value at the path is another, what stands before and after it is as it came."""
    text = data.draw(written(value))
    path = data.draw(st.sampled_from(list(paths(value))))
    start, end = spans(text, {path})[path]
    spliced = splice(text, {path: '"[masked]"'})
    assert spliced == f'{text[:start]}"[masked]"{text[end:]}'
    assert same(parse_text(spliced), put(value, path, "[masked]"))


@given(st.data(), VALUES)
def test_every_span_is_the_value_that_stands_there(data: st.DataObject, value: Json) -> None:
    """Each path's span, read alone, gives the value at that path: the scanner agrees with json.loads."""
    text = data.draw(written(value))
    everywhere = set(paths(value))
    found = spans(text, everywhere)
    assert found.keys() == everywhere
    for path, (start, end) in found.items():
        there = value
        for part in path:
            there = there[part]  # type: ignore[index]
        assert same(parse_text(text[start:end]), there)


@given(st.data(), VALUES)
def test_several_values_change_at_once(data: st.DataObject, value: Json) -> None:
    """Changes together are the changes one after another; one inside another that is replaced goes with it."""
    text = data.draw(written(value))
    chosen = data.draw(st.sets(st.sampled_from(list(paths(value))), max_size=4))
    wanted = value
    for path in sorted(chosen, key=len, reverse=True):
        wanted = put(wanted, path, "x")
    assert same(parse_text(splice(text, dict.fromkeys(chosen, '"x"'))), wanted)


@pytest.mark.parametrize(
    ("text", "path", "spliced"),
    [
        (' { "a" : 1e5 , "b":[ ] } ', ("a",), ' { "a" : 0 , "b":[ ] } '),
        ('{"\\u0061":"\\"}"}', ("a",), '{"\\u0061":0}'),
        ('{"a":{"a":{"a":1}}}', ("a", "a", "a"), '{"a":{"a":{"a":0}}}'),
        ('[[],[[]],"]",{"]":1}]', (3, "]"), '[[],[[]],"]",{"]":0}]'),
        ('{"1":[10,11]}', ("1", 1), '{"1":[10,0]}'),
        ("-0.000000000000000000001E-5", (), "0"),
        ('\r\n"\U0001d518\u2028"\t', (), "\r\n0\t"),
        (
            '{"big":123456789012345678901234567890.10,"x":null}',
            ("x",),
            '{"big":123456789012345678901234567890.10,"x":0}',
        ),
        ('{"":{"":false}}', ("", ""), '{"":{"":0}}'),
    ],
)
def test_odd_texts(text: str, path: Path, spliced: str) -> None:
    """White space, escapes in keys, brackets in strings, long numbers and empty keys are no trouble."""
    assert splice(text, {path: "0"}) == spliced


@pytest.mark.parametrize("path", [("b",), ("a", 2), ("a", "0"), ("a", 0, "x"), (0,)])
def test_a_change_that_cannot_be_made_withholds(path: Path) -> None:
    """A path that is not there is an error, not a change that was silently left out."""
    text = '{"a":["x","y"]}'
    assert json.loads(splice(text, {("a", 1): "0"})) == {"a": ["x", 0]}
    with pytest.raises(Withheld):
        splice(text, {("a", 1): "0", path: "0"})


def test_a_name_changes_and_its_value_stays() -> None:
    """A member's name is spliced like a value, alone or together with its value, however it was written."""
    text = '{ "\\u0061" : {"a":1}, "b":2 }'
    assert splice(text, {("a", NAME): '"x"'}) == '{ "x" : {"a":1}, "b":2 }'
    assert splice(text, {("a", "a", NAME): '"x"', ("b", NAME): '"y"', ("b",): "3"}) == '{ "\\u0061" : {"x":1}, "y":3 }'
    with pytest.raises(Withheld):
        splice(text, {("c", NAME): '"x"'})
