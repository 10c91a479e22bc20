"""Strict JSON."""

import json
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.errors import Malformed
from mcp_sod.wire.strict_json import Json, canonical, digits, parse, parse_text, pointer, texts

from tests.unit.wire.json_values import VALUES, same, written

REFUSED: list[tuple[str, bytes, bytes]] = [
    ("a key twice", b'{"a":1,"a":1}', b'{"a":1,"b":1}'),
    ("a key twice, once escaped", b'{"a":1,"\\u0061":2}', b'{"a":1,"\\u0062":2}'),
    ("a key twice, deep inside", b'[{"x":[{"a":1,"a":2}]}]', b'[{"x":[{"a":1},{"a":2}]}]'),
    ("NaN", b'{"a":NaN}', b'{"a":null}'),
    ("Infinity", b"[Infinity]", b"[1]"),
    ("-Infinity", b"[-Infinity]", b"[-1]"),
    ("a byte-order mark", b"\xef\xbb\xbf{}", b"{}"),
    ("UTF-16", '{"a":1}'.encode("utf-16-le"), b'{"a":1}'),
    ("Latin-1", '{"a":"é"}'.encode("latin-1"), '{"a":"é"}'.encode()),
    ("an overlong form", b'["\xc0\xaf"]', b'["/"]'),
    ("a surrogate in UTF-8", b'["\xed\xa0\x80"]', b'["\xf0\x90\x80\x80"]'),
    ("a lone high surrogate", b'["\\ud800"]', b'["\\ud83d\\ude00"]'),
    ("a lone low surrogate", b'["\\uDC00x"]', b'["\\u00DCx"]'),
    ("surrogates the wrong way round", b'["\\ude00\\ud83d"]', b'["\\uD83D\\uDE00"]'),
    ("a lone surrogate in a key", b'{"\\ud800":1}', b'{"\\u0800":1}'),
    ("a control character", b'["a\nb"]', b'["a\\nb"]'),
    ("an unknown escape", b'["\\x41"]', b'["\\u0041"]'),
    ("a trailing comma", b'{"a":1,}', b'{"a":1}'),
    ("a comment", b'{"a":1}//x', b'{"a":1} '),
    ("single quotes", b"{'a':1}", b'{"a":1}'),
    ("a second value", b"{}{}", b"[{},{}]"),
    ("a leading zero", b"[01]", b"[1]"),
    ("a plus sign", b"[+1]", b"[1]"),
    ("hexadecimal", b"[0x10]", b"[16]"),
    ("a bare point", b"[1.]", b"[1.0]"),
    ("a number of 5,000 digits", b"9" * 5000, b"9" * 4000),
    ("an exponent beyond keeping", b"1e99999999999999999999", b"1e400"),
    ("nothing", b"", b'""'),
    ("a form feed as white space", b"\x0c{}", b"\t{}"),
    ("a no-break space as white space", "\u00a0{}".encode(), b" {}"),
    ("65 levels", b"[" * 65 + b"]" * 65, b"[" * 64 + b"]" * 64),
    ("65 levels, mixed", b'{"a":[' * 32 + b"[]" + b"]}" * 32, b'{"a":[' * 32 + b"]}" * 32),
    ("a million values", b"[" + b"{}," * 999_999 + b"{}]", b"[" + b"{}," * 99_999 + b"{}]"),
    ("a million numbers", b"[" + b"1," * 999_999 + b"1]", b"[" + b"1," * 99_999 + b"1]"),
    ("100,000 levels", b"[" * 100_000, b'"' + b"[" * 100_000 + b'"'),
]


@pytest.mark.parametrize(("bad", "good"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED])
def test_what_two_parsers_could_read_differently_is_refused(bad: bytes, good: bytes) -> None:
    """Each text that some parser reads otherwise is refused; the nearest strict text beside it is read."""
    parse(good)
    with pytest.raises(Malformed):
        parse(bad)


def test_a_refusal_quotes_nothing() -> None:
    """The sentence repeats nothing of the message: it goes into logs."""
    for bad in (b'{"s3cret":1,"s3cret":2}', b'{"a":s3cret}', b'["s3cret\\q"]'):
        with pytest.raises(Malformed) as refused:
            parse(bad)
        assert "s3cret" not in str(refused.value)


@pytest.mark.parametrize("most", [1, 4, 64, 200])
def test_depth_is_counted_exactly(most: int) -> None:
    """`max_depth` levels are read, one more is refused, whatever else the text holds."""
    parse(b"[" * most + b"]" * most, most)
    parse(
        b'{"[[[[":' + b"[" * (most - 1) + b'"{{{{"' * (most > 1) + b"1" * (most == 1) + b"]" * (most - 1) + b"}", most
    )
    with pytest.raises(Malformed, match=f"deeper than {most} levels"):
        parse(b"[" * (most + 1) + b"]" * (most + 1), most)


@given(st.data(), VALUES)
def test_a_value_survives_however_it_is_written(data: st.DataObject, value: Json) -> None:
    """White space and escapes change nothing: the parsed value is the one that was written, digits and all."""
    assert same(parse_text(data.draw(written(value))), value)


@given(VALUES, VALUES)
def test_canonical_forms_differ_just_where_values_do(one: Json, other: Json) -> None:
    """Two values share a canonical form only if they are the same to the digit."""
    assert (canonical(one) == canonical(other)) == same(one, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("1", "1.0"), ("1", "true"), ("0", "false"), ("1", '"1"'), ("0.1", "0.10000000000000000001"),
        ("1.0", "1.00"), ("9007199254740993", "9007199254740992"), ("1e400", "1e401"), ("0.0", "-0.0"),
        ("1.5", '{"\\\\ud800":"1.5"}'), ("1.5", '{"ud800":"1.5"}'), ("null", '"null"'), ("[]", "{}"), ('""', "null"),
        ('["a","b"]', '["a,b"]'), ('["a","b"]', '["b","a"]'), ('{"a":"b"}', '["a","b"]'), ('"\\u00e9"', '"e\\u0301"'),
    ],
)  # fmt: skip
def test_look_alikes_are_not_the_same_call(one: str, other: str) -> None:
    """Values that some parser takes for equal have different canonical forms."""
    assert canonical(parse_text(one)) != canonical(parse_text(other))


def test_the_order_of_keys_and_white_space_do_not_matter() -> None:
    """One call written in two ways has one canonical form."""
    assert canonical(parse_text('{"b": 1.50,\n"a":"\\u00e9"}')) == canonical(parse_text('{"a":"é","b":1.50}'))


@given(VALUES)
def test_texts_finds_every_string_number_and_key(value: Json) -> None:
    """Nothing that could carry text is left out, each once, and each path leads to its leaf."""
    found = texts(value)
    wanted_leaves: list[str] = []
    wanted_keys: list[str] = []

    def walk(item: Json) -> None:
        match item:
            case dict():
                wanted_keys.extend(item)
                for inner in item.values():
                    walk(inner)
            case list():
                for inner in item:
                    walk(inner)
            case bool() | None:
                pass
            case _:
                wanted_leaves.append(item if isinstance(item, str) else digits(item))

    walk(value)
    assert sorted(text for _, text in found.leaves) == sorted(wanted_leaves)
    assert sorted(text for _, text in found.keys) == sorted(wanted_keys)
    for path, text in found.leaves:
        leaf = value
        for part in path:
            leaf = leaf[part]  # type: ignore[index]
        assert (digits(leaf) if isinstance(leaf, int | Decimal) else leaf) == text
    assert all(path[-1] == key for path, key in found.keys)


def test_numbers_keep_their_digits() -> None:
    """No number passes through a double."""
    assert parse(b"[0.1,12345678901234567890123]") == [Decimal("0.1"), 12345678901234567890123]


def test_a_pointer_is_rfc_6901s() -> None:
    """Slash and tilde in keys are escaped, indices are numbers."""
    assert pointer(("a/b", "c~d", 0, "")) == "/a~1b/c~0d/0/"


@given(VALUES)
def test_it_reads_what_the_standard_library_reads(value: Json) -> None:
    """On plain values it agrees with json.loads."""
    text = json.dumps(value, default=str)
    assert parse_text(text) == json.loads(text, parse_float=Decimal)


@pytest.mark.parametrize(
    ("number", "row"),
    [
        ("4.111111111111111e15", "4111111111111111"),
        ("41111111111111.1E2", "4111111111111110"),
        ("12.50", "12.50"),
        ("7", "7"),
        ("1e-7", "0.0000001"),
        ("1e999999", "1E+999999"),
        ("1e-999999", "1E-999999"),
    ],
)
def test_a_number_shows_its_digits_in_a_row(number: str, row: str) -> None:
    """No way of writing a number hides its digits from a pattern; none makes a text needlessly long."""
    value = parse_text(number)
    assert isinstance(value, int | Decimal)
    assert digits(value) == row
    assert texts([value]).leaves == [((0,), row)]
