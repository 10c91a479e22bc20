"""Keys of objects, out of arguments and results."""

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.errors import Denied
from mcp_sod.separation.keys import MOST_OBJECTS, digest, digests_at, objects_in, tokens

SEVEN = digest(7)


@pytest.mark.parametrize(
    "same",
    [
        7, Decimal("7.0"), Decimal("0.7E+1"), "7", "007", " 7 ", "+7", "\u0667", "\uff17", "7\u200b", "7.0", "007.00",
        "7.", "0_7", "+0_0_7.0", "\uff0b\uff17", "\u0667.\u0660", "0x7", "0X07", "0o7", "0b111",
    ],
)  # fmt: skip
def test_spellings_of_a_number(same: Any) -> None:
    """However seven is written, it is one object."""
    assert digest(same) == SEVEN


@pytest.mark.parametrize("other", [8, 70, -7, "7.0.0", "7_0", "7 0", "a7", "vii", "0x8", "0x", "+-7", "_7", "7,0"])
def test_others_than_a_number(other: Any) -> None:
    """What is not seven is another object."""
    assert digest(other) != SEVEN


@pytest.mark.parametrize(
    "none",
    [None, True, False, "", " \t", "\u200b", {}, {"id": 7}, Decimal("7.5"), 2**53, -(2**53), Decimal("1E+999999")],
)
def test_what_is_no_key(none: Any) -> None:
    """Anything but a text or a whole number that all parsers read alike is refused."""
    with pytest.raises(Denied, match="neither a text nor a whole number"):
        digest(none)


@pytest.mark.parametrize(("same", "number"), [("-07", -7), ("-7.0", -7), ("-0", 0), ("1_000.0", 1000), ("7_0", 70)])
def test_spellings_of_other_numbers(same: str, number: int) -> None:
    """Signs, separators and fractions of nothing make no other number."""
    assert digest(same) == digest(number)


UUID = "123e4567-e89b-12d3-a456-426614174000"


@pytest.mark.parametrize(
    "same",
    [
        UUID.upper(), UUID.replace("-", ""), f"urn:uuid:{UUID}", f"URN:UUID:{UUID}", f"{{{UUID}}}", f"({UUID})",
        f" {UUID}\n", f"uuid:{UUID.replace('-', '')}", UUID.replace("-", "", 2),
    ],
)  # fmt: skip
def test_spellings_of_a_uuid(same: str) -> None:
    """However it is written, it is one object."""
    assert digest(same) == digest(UUID)


@pytest.mark.parametrize("other", [UUID[:-1], f"{UUID}0", UUID[:-1] + "1", UUID[:-1] + "g", f"urn:isbn:{UUID}"])
def test_others_than_a_uuid(other: str) -> None:
    """A digit less, more or another is another object."""
    assert digest(other) != digest(UUID)


def test_a_uuid_of_digits_alone() -> None:
    """It is told apart neither from its other forms nor from the number that has its digits."""
    assert len({digest(one) for one in ("0" * 24 + "-1234-5678", "0" * 24 + "12345678", 12345678)}) == 1


@pytest.mark.parametrize(
    "read_otherwise",
    [
        "[7]", '["7"]', '{"id": 7}', '"7"', "[", "{x", '"', " [7]", "\uff3b7]", "\u200b[7]", "true", "False", "NULL",
        "NaN", "-Infinity", "1e3", "1E+3", "-1.5e-3", "7.5", ".5", "0.50", "\u0667.\u0665", "7_0e1", "7.e1",
    ],
)  # fmt: skip
def test_texts_that_servers_read_otherwise(read_otherwise: str) -> None:
    """What a lenient server reads as JSON or as a number with a fraction or an exponent is refused."""
    with pytest.raises(Denied, match="read as JSON or as a number"):
        digest(read_otherwise)


@pytest.mark.parametrize("plain", ["7[", "a{", "i'7'", "truth", "nullable", "1e", "e3", "1e3x", "v7.5", "7.5.1", "."])
def test_texts_that_nobody_reads_otherwise(plain: str) -> None:
    """The control: what only looks a little like that is a key."""
    assert digest(plain) == digest(f" {plain.upper()}")


@pytest.mark.parametrize("long", ["1" * 200_000 + "x", "1_" * 100_000 + ".x", "-" * 200_000, "0x" + "f" * 200_000])
def test_long_keys_take_no_longer(long: str) -> None:
    """Whatever a key looks like, it is read in time linear in its length: this ends."""
    assert digest(long)


@given(st.text(max_size=40))
def test_case_and_blanks_tell_no_two_apart(text: str) -> None:
    """A text, folded or with blanks around, is the same object, or is none in either way."""
    assert len({told(one) for one in (text, text.casefold(), f" {text}\n", f"{text}\u200b")}) == 1


def told(text: str) -> str | None:
    """The object, or None."""
    try:
        return digest(text)
    except Denied:
        return None


@pytest.mark.parametrize(
    ("key", "path"),
    [
        ("arguments:/id", ("id",)),
        ("result:/a/0/b", ("a", "0", "b")),
        ("result:/~01", ("~1",)),
        ("result:/a~1b", ("a/b",)),
        ("arguments:/", ("",)),
        ("arguments:/a:/b", ("a:", "b")),
    ],
)
def test_pointers(key: str, path: tuple[str, ...]) -> None:
    """A pointer's tokens are unescaped as RFC 6901, section 4, says."""
    assert tokens(key) == path


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        ({}, ("id",), "nothing"),
        ([7], ("1",), "nothing"),
        ([7], ("-",), "nothing"),
        ([7], ("00",), "nothing"),
        ([7, 8], ("01",), "nothing"),
        ("7", ("0",), "nothing"),
        (None, ("id",), "nothing"),
        ({"id": []}, ("id",), "empty"),
        ({"id": [[7]]}, ("id",), "neither"),
        ({"id": list(range(MOST_OBJECTS + 1))}, ("id",), f"more than {MOST_OBJECTS}"),
        ({"id": 7, "ID": 8}, ("id",), "spelling alone"),
        ({"a": {"id": 7}, " A": {"id": 8}}, ("a", "id"), "spelling alone"),
        ({"id": 7, "i\u200bd": 7}, ("id",), "spelling alone"),
    ],
)
def test_places_that_tell_no_object(value: Any, path: tuple[str, ...], says: str) -> None:
    """Where there is nothing, or two things, no object is told."""
    with pytest.raises(Denied, match=says):
        digests_at(value, path)


def test_places_that_tell_objects() -> None:
    """One key, one of a list, or a whole list, each object once."""
    assert digests_at({"id": 7}, ("id",)) == {SEVEN}
    assert digests_at([8, {"id": "7"}], ("1", "id")) == {SEVEN}
    assert digests_at({"id": [7, "07", 8]}, ("id",)) == {SEVEN, digest(8)}
    assert len(digests_at({"id": list(range(MOST_OBJECTS))}, ("id",))) == MOST_OBJECTS


TEXT = {"type": "text", "text": '{"id": "7"}'}


@pytest.mark.parametrize(
    ("result", "objects"),
    [
        ({"structuredContent": {"id": 7}}, {7}),
        ({"structuredContent": {"id": [7, 8]}}, {7, 8}),
        ({"content": [TEXT]}, {7}),
        ({"content": [{"type": "image", "data": ""}, TEXT]}, {7}),
        ({"structuredContent": {"id": 8}, "content": [TEXT]}, {8}),
        ({"structuredContent": {"ok": True}, "content": [TEXT]}, {7}),
        ({"structuredContent": {"id": None}}, None),
        ({"content": [{"type": "text", "text": "made 7"}, TEXT]}, None),
        ({"content": [{"type": "text", "text": '{"id": 7, "id": 8}'}]}, None),
        ({"content": [{"type": "text", "text": 7}]}, None),
        ({"content": "7"}, None),
        ({"content": [7]}, None),
        ({"id": 7}, None),
        ({}, None),
    ],
)
def test_objects_of_a_result(result: dict[str, Any], objects: set[int] | None) -> None:
    """The structured content tells the objects, or else the first text; anything else tells none."""
    assert objects_in(result, "result:/id", 64) == (None if objects is None else {digest(one) for one in objects})
