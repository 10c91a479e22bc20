"""The truth tables in tests/cases: YAML files, each checked against its shape before a case of it runs."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import pytest
import yaml
from _pytest.mark import ParameterSet
from pydantic import BaseModel, ConfigDict, Field, Strict

FOLDER = Path(__file__).resolve().parents[1] / "cases"


class Part(BaseModel):
    """Anything in a case file: a key that nobody reads is an error, so that no row is without effect."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


type Pair[T] = Annotated[tuple[str, T], Strict(strict=False)]  # YAML has lists where Python has pairs


class Case(Part):
    """One row; `name` says in a few words what is so."""

    name: str = Field(min_length=3)


class Table(Part):
    """One file: what it is about, the policy that its rows stand on, and the rows."""

    about: str = Field(min_length=10)
    policy: Mapping[str, Any] = Field(default_factory=dict)
    cases: list[dict[str, Any]] = Field(min_length=2)


def tables(kind: str) -> dict[str, Table]:
    """The tables of one folder, by name."""
    files = sorted((FOLDER / kind).glob("*.yaml"))
    assert files, f"there are no cases in tests/cases/{kind}"
    return {file.stem: Table.model_validate(yaml.safe_load(file.read_text())) for file in files}


def rows[C: Case](kind: str, shape: type[C], *names: str) -> list[ParameterSet]:
    """(policy, case) for each row of a folder's tables, or of those named, for `pytest.mark.parametrize`."""
    return [
        pytest.param(table.policy, shape.model_validate(row), id=f"{name}: {row.get('name')}")
        for name, table in tables(kind).items()
        if not names or name in names
        for row in table.cases
    ]
