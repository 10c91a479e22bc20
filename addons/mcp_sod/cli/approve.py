"""`approve`: list, show, approve and deny held calls, with the approver's own token; the gateway decides who may."""

import json
from typing import Annotated, Any, Literal

import typer
from rich.table import Column, Table

from mcp_sod.cli.asking import LOCAL, AsJson, Gateway, Token, ask, left, plain, show_answer, stacked

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Approve or deny held calls.\n\nExample: approve.py list --gateway http://127.0.0.1:8081 --token $TOKEN",
)  # fmt: skip

type Answer = dict[str, Any]
TicketId = Annotated[str, typer.Argument(help="The ticket, such as t-0123456789ab.")]
Reason = Annotated[str, typer.Option(help="Why; it goes on record.")]
Digest = Annotated[str, typer.Option(help="Vote only if the call still has this digest (show prints it).")]


@app.command("list")
def list_tickets(
    token: Token, gateway: Gateway = LOCAL, state: Annotated[str, typer.Option(help="Only this state.")] = "pending",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List held calls; `--state ''` lists all.

    Example: approve.py list --state approved --json
    """
    found = ask(gateway, token, "GET", "/api/v1/tickets", params={"state": state} if state else {})
    show_answer(found, _table, as_json=as_json)


@app.command()
def show(ticket: TicketId, token: Token, gateway: Gateway = LOCAL, as_json: AsJson = False) -> None:
    """Show one held call: who asks, what was found, the call itself (secrets masked), the votes.

    Example: approve.py show t-0123456789ab
    """
    show_answer(ask(gateway, token, "GET", f"/api/v1/tickets/{ticket}"), _sheet, as_json=as_json)


@app.command()
def approve(
    ticket: TicketId, token: Token, gateway: Gateway = LOCAL, reason: Reason = "", digest: Digest = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say yes to exactly the call on the ticket, once.

    Example: approve.py approve t-0123456789ab --reason "change 4711"
    """
    _vote(gateway, token, ticket, "approve", digest, reason, as_json=as_json)


@app.command()
def deny(
    ticket: TicketId, token: Token, gateway: Gateway = LOCAL, reason: Reason = "", digest: Digest = "",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Say no; one no is final.

    Example: approve.py deny t-0123456789ab --reason "not on a Friday"
    """
    _vote(gateway, token, ticket, "deny", digest, reason, as_json=as_json)


def _vote(
    gateway: str,
    token: str,
    ticket: str,
    decision: Literal["approve", "deny"],
    digest: str,
    reason: str,
    *,
    as_json: bool,
) -> None:
    if not digest:
        digest = str(ask(gateway, token, "GET", f"/api/v1/tickets/{ticket}")["digest"])
    ballot = {"decision": decision, "digest": digest, "reason": reason}
    show_answer(
        ask(gateway, token, "POST", f"/api/v1/tickets/{ticket}/votes", json=ballot),
        _summary,
        as_json=as_json,
    )


def _table(tickets: list[Answer]) -> Table | str:
    if not tickets:
        return "No held calls."
    kept = Column("ticket", no_wrap=True)  # an id that is cut cannot be copied
    table = Table(kept, *(Column(name, overflow="fold") for name in ("call", "you")), show_lines=True)
    for ticket in tickets:
        table.add_row(
            stacked(ticket["id"], ticket["state"], f"{left(ticket['expires'])} left"),
            stacked(_call(ticket), f"from {ticket['requester']}", ", ".join(ticket["findings"])),
            stacked("may vote" if ticket["may_vote"] else ticket["why_not"]),
        )
    return table


def _sheet(ticket: Answer) -> Table:
    table = Table(Column(no_wrap=True), Column(overflow="fold"), show_header=False, box=None)  # nothing is cut
    votes = ticket["votes"]
    rows = [(name, ticket[name]) for name in ("id", "state", "requester", "behind", "upstream", "method")]
    rows += [("target", ticket["target"])] if ticket["target"] else []
    rows += [(name, ticket[name]) for name in ("findings", "needs", "digest", "call")]
    rows += [
        ("expires in", left(ticket["expires"])),
        ("you", "may vote" if ticket["may_vote"] else ticket["why_not"]),
    ]
    rows += [("vote", f"{vote['who']}: {vote['decision']} {vote['reason']}") for vote in votes]
    for name, value in rows:
        text = _readable(value) if name == "call" else value if isinstance(value, str) else json.dumps(value)
        table.add_row(name, plain(text))
    return table


def _readable(call: str) -> str:
    """Return the call with each value on a line of its own; as it came if it is no JSON."""
    try:
        return json.dumps(json.loads(call), indent=2, ensure_ascii=False)
    except ValueError:
        return call


def _summary(ticket: Answer) -> str:
    return plain(f"Ticket {ticket['id']} is {ticket['state']} (approvals: {ticket['approvals']}).")


def _call(ticket: Answer) -> str:
    return f"{ticket['upstream']}: {ticket['method']} {ticket['target'] or ''}".strip()
