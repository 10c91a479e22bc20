"""Reads who is in which group from what directories export: CSV or JSON, told apart by how the text begins."""

import csv
import io
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from typing import Any, ClassVar

from mcp_sod.errors import SodError
from mcp_sod.policy.patterns import plain_form

_ACCOUNT = ("member", "user", "subject", "email", "person")  # the first that is there names the account
_PREAMBLE = ("#TYPE", "sep=")  # of PowerShell, of Excel
_SHAPES = "See policy.py review --help for the shapes that are read."
_LIST = 'Write ["name", …], or see policy.py review --help for the shapes that are read.'


class MembersError(SodError):
    """An export of group members cannot be understood; names line or entry and remedy."""

    code: ClassVar[str] = "members"


@dataclass(frozen=True, slots=True)
class Membership:
    """An account in groups; `person` is whose it is, if the export says so, `keys` what tells this person."""

    account: str
    person: str
    keys: frozenset[str]
    groups: frozenset[str]


def key_of(name: str) -> str:
    """Return a form in which two spellings of one name are equal."""
    return plain_form(name).strip().casefold()


def read_members(raw: bytes) -> list[Membership]:
    """Return what an export says; raises MembersError where any of it cannot be understood, since it would be missed.

    CSV has a header, and one membership a row: `group`, and `member`, `user`, `subject`, `email` or `person`. JSON is
    `{group: [member, …]}`, a list of `{user, groups: […]}`, or a list of `{group, member}`; columns and keys are alike.
    """
    text = _text(raw)
    found = list(_of_json(text) if text.lstrip()[:1] in ("{", "[") else _of_csv(text))
    if not found:
        raise MembersError("The file names no member of any group.", hint="See that the export is whole.")
    return found


def _text(raw: bytes) -> str:
    """Return the text; spreadsheets write UTF-16, always with its mark, and UTF-8 with or without."""
    try:
        return raw.decode("utf-16" if raw[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise MembersError(f"line {line} is not UTF-8.", hint="Save the file as UTF-8.") from None


def _of_csv(text: str) -> Iterator[Membership]:
    lines, skipped, first = io.StringIO(text, newline=""), 0, ""
    for first in lines:
        if first.strip() and not first.startswith(_PREAMBLE):
            break
        skipped += 1
    if not first.strip():
        return
    delimiter = max(",;\t", key=first.count)
    reader = csv.reader(chain([first], lines), delimiter=delimiter, strict=True, skipinitialspace=True)
    names: list[str] = []
    try:
        for row in reader:
            where = f"line {skipped + reader.line_num}"
            cells = [cell.strip() for cell in row]
            if not names:
                names = _header(cells, where)
            elif any(cells):
                yield _of_row(names, cells, where)
    except csv.Error as error:
        hint = "Close every quote, and double those inside a field."
        raise MembersError(f"line {skipped + reader.line_num} is no CSV ({error}).", hint=hint) from None


def _header(cells: list[str], where: str) -> list[str]:
    names = [cell.casefold() for cell in cells]
    twice = [name for name in ("group", *_ACCOUNT) if names.count(name) > 1]
    if twice:
        raise MembersError(f"{where}: two columns are called {twice[0]}.", hint="Rename one of them.")
    if "group" not in names or not set(_ACCOUNT) & set(names):
        raise MembersError(
            f"{where}: there must be a column group, and one of {', '.join(_ACCOUNT)}.",
            hint="Name the columns so in the first line.",
        )
    return names


def _of_row(names: list[str], cells: list[str], where: str) -> Membership:
    if any(cells[len(names) :]):
        raise MembersError(f"{where} has more fields than the header.", hint="Put fields with commas into quotes.")
    row = dict(zip(names, cells, strict=False))
    if not row.get("group"):
        raise MembersError(f"{where} names no group.", hint="Add it, or remove the line.")
    return _membership(row, [row["group"]], where)


def _of_json(text: str) -> Iterator[Membership]:
    try:
        found = json.loads(text, object_pairs_hook=_unique)
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise MembersError(f"{where}: this is no JSON ({error.msg}).", hint="Export the file again.") from None
    except (RecursionError, ValueError):
        raise MembersError("line 1: this JSON is nested too deeply, or has numbers too long.", hint=_SHAPES) from None
    if isinstance(found, dict):
        for group, members in found.items():
            yield from _of_group(group, members)
    else:
        for number, entry in enumerate(found, 1):
            yield _of_entry(entry, f"entry {number}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse a key that stands twice: of one of its lists nothing would be seen."""
    found = dict(pairs)
    if len(found) != len(pairs):
        twice = next(name for index, (name, _) in enumerate(pairs) if name in dict(pairs[:index]))
        raise MembersError(f"the key {twice} stands twice in one object.", hint="Join the two.")
    return found


def _of_group(group: str, members: object) -> Iterator[Membership]:
    where = f"the group {group}"
    if not isinstance(members, list):
        raise MembersError(f"{where} has no list of members.", hint=_LIST)
    for number, member in enumerate(members, 1):
        row = {"member": member} if isinstance(member, str) else member
        if not isinstance(row, dict) or {"group", "groups"} & row.keys():
            raise MembersError(f"{where}: member {number} is no name.", hint=_LIST)
        yield _membership(row, [group], f"{where}: member {number}")


def _of_entry(entry: object, where: str) -> Membership:
    if not isinstance(entry, dict) or ("group" in entry) == ("groups" in entry):
        raise MembersError(f"{where} is no object with either group or groups.", hint=_SHAPES)
    groups = entry["groups"] if "groups" in entry else [entry["group"]]
    if not isinstance(groups, list) or not all(isinstance(group, str) and group for group in groups):
        raise MembersError(f"{where}: its groups are not a list of names.", hint=_LIST)
    return _membership(entry, groups, where)


def _membership(row: Mapping[str, Any], groups: list[str], where: str) -> Membership:
    names = {name: row[name] for name in _ACCOUNT if row.get(name) not in (None, "")}
    if not names or not all(isinstance(value, str) and key_of(value) for value in names.values()):
        hint = f"Give it a {', '.join(_ACCOUNT[:-1])} or {_ACCOUNT[-1]}."
        raise MembersError(f"{where} names nobody.", hint=hint)
    account = next(iter(names.values()))
    return Membership(account, names.get("person", ""), frozenset(map(key_of, names.values())), frozenset(groups))
