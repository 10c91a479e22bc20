"""`approve`: list, show, approve and deny held calls, with the approver's own token; the gateway decides who may."""

import json
import time
from collections.abc import Callable
from typing import Annotated, Any, Literal

import httpx
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Approve or deny held calls.\n\nExample: approve.py list --gateway http://127.0.0.1:8081 --token $TOKEN",
)  # fmt: skip

type Answer = dict[str, Any]
Gateway = Annotated[str, typer.Option(envvar="SOD_GATEWAY", help="The console's address.")]
Token = Annotated[
    str, typer.Option(envvar="SOD_TOKEN", help="Your own token; better in SOD_TOKEN.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
TicketId = Annotated[str, typer.Argument(help="The ticket, such as t-0123456789ab.")]
Reason = Annotated[str, typer.Option(help="Why; it goes on record.")]
Digest = Annotated[str, typer.Option(help="Vote only if the call still has this digest (show prints it).")]
LOCAL = "http://127.0.0.1:8081"


@app.command("list")
def list_tickets(
    token: Token, gateway: Gateway = LOCAL, state: Annotated[str, typer.Option(help="Only this state.")] = "pending",
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """List held calls; `--state ''` lists all.

    Example: approve.py list --state approved --json
    """
    found = _ask(gateway, token, "GET", "/api/v1/tickets", params={"state": state} if state else {})
    _print(found, _table, as_json=as_json)


@app.command()
def show(ticket: TicketId, token: Token, gateway: Gateway = LOCAL, as_json: AsJson = False) -> None:
    """Show one held call: who asks, what was found, the call itself (secrets masked), the votes.

    Example: approve.py show t-0123456789ab
    """
    _print(_ask(gateway, token, "GET", f"/api/v1/tickets/{ticket}"), _sheet, as_json=as_json)


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
        digest = str(_ask(gateway, token, "GET", f"/api/v1/tickets/{ticket}")["digest"])
    ballot = {"decision": decision, "digest": digest, "reason": reason}
    _print(
        _ask(gateway, token, "POST", f"/api/v1/tickets/{ticket}/votes", json=ballot),
        _summary,
        as_json=as_json,
    )


def _ask(gateway: str, token: str, method: str, path: str, **request: Any) -> Any:
    """Return the console's answer; ends the command with one clear line when there is none or it is a refusal."""
    headers = {"authorization": f"Bearer {token}"}
    try:
        with httpx.Client(base_url=gateway, headers=headers, timeout=30, trust_env=False) as client:
            answer = client.request(method, path, **request)
            body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise _fail(
            f"No console answers at {gateway} ({type(error).__name__}).", "Give --gateway, or start it."
        ) from None
    if answer.is_error:
        raise _fail(str(body.get("error", f"HTTP {answer.status_code}")), str(body.get("hint", "")))
    return body


def _fail(sentence: str, hint: str) -> typer.Exit:
    Console(stderr=True, soft_wrap=True, emoji=False).print(
        f"[red]refused:[/red] {_plain(f'{sentence} {hint}'.strip())}"
    )
    return typer.Exit(1)


def _print(answer: Any, picture: Callable[[Any], object], *, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        Console(soft_wrap=True, emoji=False).print(picture(answer))


def _table(tickets: list[Answer]) -> Table | str:
    if not tickets:
        return "No held calls."
    names = ("requester", "call", "found", "expires in", "you")
    kept = [Column(name, no_wrap=True) for name in ("ticket", "state")]  # an id that is cut cannot be copied
    table = Table(*kept, *(Column(name, overflow="fold") for name in names))
    for ticket in tickets:
        table.add_row(*(_plain(cell) for cell in (
            ticket["id"], ticket["state"], ticket["requester"], _call(ticket), ", ".join(ticket["findings"]),
            _left(ticket["expires"]), "may vote" if ticket["may_vote"] else ticket["why_not"],
        )))  # fmt: skip
    return table


def _sheet(ticket: Answer) -> Table:
    table = Table(Column(no_wrap=True), Column(overflow="fold"), show_header=False, box=None)  # nothing is cut
    votes = ticket["votes"]
    rows = [(name, ticket[name]) for name in ("id", "state", "requester", "behind", "upstream", "method")]
    rows += [("target", ticket["target"])] if ticket["target"] else []
    rows += [(name, ticket[name]) for name in ("findings", "needs", "digest", "call")]
    rows += [
        ("expires in", _left(ticket["expires"])),
        ("you", "may vote" if ticket["may_vote"] else ticket["why_not"]),
    ]
    rows += [("vote", f"{vote['who']}: {vote['decision']} {vote['reason']}") for vote in votes]
    for name, value in rows:
        text = _readable(value) if name == "call" else value if isinstance(value, str) else json.dumps(value)
        table.add_row(name, _plain(text))
    return table


def _readable(call: str) -> str:
    """Return the call with each value on a line of its own; as it came if it is no JSON."""
    try:
        return json.dumps(json.loads(call), indent=2, ensure_ascii=False)
    except ValueError:
        return call


def _summary(ticket: Answer) -> str:
    return _plain(f"Ticket {ticket['id']} is {ticket['state']} (approvals: {ticket['approvals']}).")


def _plain(text: str) -> str:
    """Return the text with everything a terminal could obey, or the eye could miss, written out."""
    return escape("".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in text))


def _call(ticket: Answer) -> str:
    return f"{ticket['upstream']}: {ticket['method']} {ticket['target'] or ''}".strip()


def _left(expires: int) -> str:
    left = max(0, expires - int(time.time()))
    return f"{left // 3600}h {left % 3600 // 60:02}m" if left >= 3600 else f"{left // 60}m {left % 60:02}s"
