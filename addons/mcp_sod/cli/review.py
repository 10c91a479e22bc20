"""`policy review`: who is over-broad before they call."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.text import Text

from mcp_sod.errors import SodError
from mcp_sod.policy.load import load
from mcp_sod.roles.members import MembersError, read_members
from mcp_sod.roles.review import OverBroad, Review
from mcp_sod.roles.review import review as review_members

Members = Annotated[Path, typer.Option("--members", help="CSV or JSON export of group members.")]
Folder = Annotated[Path, typer.Argument(help="The policy folder.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


def review(members: Members, folder: Folder = Path("policies"), as_json: AsJson = False) -> None:
    """List who holds roles that exclude each other, from an export of group members.

    CSV: a header with group and one of member, user, subject, email, person; one membership a row.
    A person column beside another, or a shared email, tells which accounts belong together.

    JSON: {"group": ["member"]}, [{"user": "…", "groups": ["…"]}] or [{"group": "…", "member": "…"}].

    Exit status 0 if there is nobody, 1 if there is someone, 2 if the file or the policy cannot be understood.

    Example: policy.py review --members members.csv policies
    """
    try:
        found = review_members(_read(members), load(folder).document)
    except SodError as error:
        typer.echo(f"error: {_plain(str(error))}", err=True)
        raise typer.Exit(2) from None
    typer.echo(json.dumps(_record(found), indent=2)) if as_json else _tell(found)
    raise typer.Exit(1 if found.over_broad else 0)


def _read(file: Path) -> Any:
    try:
        return read_members(file.read_bytes())
    except OSError as error:
        raise MembersError(f"{file} cannot be read: {error.strerror}.", hint="Give --members FILE.") from None
    except MembersError as error:
        raise MembersError(f"{file.name}: {error.sentence}", hint=error.hint) from None


def _record(found: Review) -> dict[str, Any]:
    whole = asdict(found)  # but for the rules, which are parts of the policy
    for person, shown in zip(found.over_broad, whole["over_broad"], strict=True):
        for excess, one in zip(person.excesses, shown["excesses"], strict=True):
            one["rule"] = {"roles": excess.rule.roles, "most": excess.rule.most}
    return whole


def _tell(found: Review) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for one in found.over_broad:
        console.print(Text("over-broad:", "red"), Text(_plain(_named(one))))
        for excess in one.excesses:
            console.print(Text(f"  {_plain(str(excess))}"))
    for note in found.notes:
        console.print(Text("but:", "yellow"), Text(_plain(note)))
    looked = f"{found.people} people in {found.groups} groups looked at"
    verdict = f"{len(found.over_broad)} over-broad" if found.over_broad else "nobody is over-broad"
    console.print(Text(f"{looked}: {verdict}.", "bold red" if found.over_broad else "bold green"))


def _named(one: OverBroad) -> str:
    known = one.accounts == (one.person,)
    return one.person if known else f"{one.person} ({', '.join(one.accounts)})"


def _plain(text: str) -> str:
    """Return text for the terminal, without what could steer it: names in a directory are what people chose."""
    return "".join(each if each.isprintable() or each == "\n" else "\N{REPLACEMENT CHARACTER}" for each in text)
