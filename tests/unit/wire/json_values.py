"""Random JSON for property tests: values, and texts that write them in odd but legal ways."""

import json
from decimal import Decimal

from hypothesis import strategies as st
from mcp_sod.wire.strict_json import Json

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12) | st.sampled_from(
    ['"', "\\", "\u2028", "é", "\U0001d518", "\x00", "a/b~c", "{}", "[1,2]", "\ufeff", "\x7f"]
)
NUMBERS = (
    st.integers(-(10**30), 10**30)
    | st.decimals(allow_nan=False, allow_infinity=False, places=9).map(Decimal)
    | st.sampled_from([Decimal("0.1"), Decimal("0.10000000000000000001"), Decimal("1E+400"), Decimal("1.0"), 1, 0])
)
SCALARS: st.SearchStrategy[Json] = st.one_of(st.none(), st.booleans(), NUMBERS, TEXT)
VALUES: st.SearchStrategy[Json] = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4), max_leaves=12
)
BLANK = st.text(st.sampled_from(" \t\r\n"), max_size=3)


@st.composite
def written(draw: st.DrawFn, value: Json) -> str:
    """The value as JSON text, with random white space and a random choice of escapes."""

    def blank() -> str:
        return draw(BLANK)

    def text(item: Json) -> str:
        match item:
            case str():
                return json.dumps(item, ensure_ascii=draw(st.booleans()))
            case Decimal():
                return str(item)
            case list():
                return "[" + ",".join(blank() + text(inner) + blank() for inner in item) + blank() + "]"
            case dict():
                return (
                    "{"
                    + ",".join(f"{blank()}{text(k)}{blank()}:{blank()}{text(v)}{blank()}" for k, v in item.items())
                    + blank()
                    + "}"
                )
            case _:
                return json.dumps(item)

    return blank() + text(value) + blank()


def same(one: Json, other: Json) -> bool:
    """Whether two values are the same call: alike to the digit, with true and 1 and 1.0 apart."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same, one, other))
    return type(one) is type(other) and str(one) == str(other)
