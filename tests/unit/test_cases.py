"""The truth tables themselves."""

from typing import Any

import pytest

from tests.unit.cases import Table, tables

TABLES = {
    f"{kind}/{name}": table
    for kind in (
        "approval", "delivery", "identity", "masking", "policy", "risk", "roles", "saml", "separation",
        "separation_of_people", "wire",
    )
    for name, table in tables(kind).items()
}  # fmt: skip
PASSES = {"allowed": True, "verdict": "allow", "same": True, "becomes": "approved"}
REFUSALS = {"refused", "withheld", "says", "hides"}


def passes(row: dict[str, Any]) -> bool:
    """Whether a row is a control: something that goes through."""
    if isinstance(row.get("gives"), str):  # a reply: masked, or the same as it came
        return bool(row["gives"] == "same")
    decided = [row[name] == value for name, value in PASSES.items() if name in row]
    return all(decided) if decided else not any(row.get(name) for name in REFUSALS)


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_every_table_has_controls(table: Table) -> None:
    """Beside what is refused stands what goes through: a table of refusals would hold for a dead gateway too."""
    assert {passes(row) for row in table.cases} == {True, False}


@pytest.mark.parametrize("table", TABLES.values(), ids=TABLES.keys())
def test_every_row_has_a_name_of_its_own(table: Table) -> None:
    """A row that fails can be told from the others, and none stands twice."""
    names = [row["name"] for row in table.cases]
    assert sorted(set(names)) == sorted(names)
    rows = [{key: value for key, value in row.items() if key != "name"} for row in table.cases]
    assert [row for at, row in enumerate(rows) if row in rows[:at]] == []
