"""`revoke`: take someone's access away at once, whatever their tokens say; list what is revoked, and lift it again."""

import datetime as dt
from typing import Annotated, Any, get_args

import typer
from rich.table import Column, Table

from mcp_sod.cli.asking import LOCAL, AsJson, Gateway, Token, ask, plain, show_answer, stacked
from mcp_sod.policy.people import Kind

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Revoke someone's access at once.\n\nExample: revoke.py person bob@example.com --reason 'left today'",
)  # fmt: skip

Reason = Annotated[str, typer.Option(help="Why; it goes on record.")]
_MEANING: dict[Kind, tuple[str, str, str]] = {  # what it takes away, what the value is, an example
    "subject": ("Revoke an account.", "`sub`, or `issuer#sub` for one issuer alone.", "https://login.example.com#bob"),
    "person": ("Revoke a person, with every account and whatever acts for them.",
               "A person key, such as the e-mail address.", "bob@example.com"),
    "client": ("Revoke a client, whoever uses it.", "The client id (`azp`, `client_id`).", "ci-runner"),
    "token": ("Revoke one token.", "Its `jti`, or the fingerprint that records show.", "1f0c2d3e4b5a6978"),
    "session": ("Revoke one session.", "The fingerprint that records show.", "9b2d3e4f5a6b7c8d"),
    "key": ("Revoke whatever rests on a key.", "The thumbprint of tokens' own key, or the `kid` of their signature.",
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"),
}  # fmt: skip


def _revoking(kind: Kind, summary: str, meaning: str, example: str) -> None:
    """Add the command that revokes things of this kind."""
    value_of = Annotated[str, typer.Argument(help=meaning)]

    @app.command(kind, help=f"{summary}\n\nExample: revoke.py {kind} {example} --reason 'incident 7'")
    def revoke(
        value: value_of, token: Token, gateway: Gateway = LOCAL, reason: Reason = "", as_json: AsJson = False,
    ) -> None:  # fmt: skip
        order = {"kind": kind, "value": value, "reason": reason}
        show_answer(ask(gateway, token, "POST", "/api/v1/revocations", json=order), _summary, as_json=as_json)


for _kind in get_args(Kind):
    _revoking(_kind, *_MEANING[_kind])


@app.command("list")
def list_revocations(token: Token, gateway: Gateway = LOCAL, as_json: AsJson = False) -> None:
    """List what is revoked, by command and by the policy.

    Example: revoke.py list --json
    """
    show_answer(ask(gateway, token, "GET", "/api/v1/revocations"), _table, as_json=as_json)


@app.command()
def lift(
    revocation: Annotated[int, typer.Argument(help="The revocation's number, as `list` shows it.")],
    token: Token, gateway: Gateway = LOCAL, as_json: AsJson = False,
) -> None:  # fmt: skip
    """Take a revocation back; what the policy lists is taken back there.

    Example: revoke.py lift 7
    """
    answer = ask(gateway, token, "DELETE", f"/api/v1/revocations/{revocation}")
    show_answer(answer, lambda _: f"Revocation {revocation} is lifted.", as_json=as_json)


def _summary(entry: dict[str, Any]) -> str:
    return plain(f"Revoked: {entry['kind']} {entry['value']} (number {entry['id']}).")


def _table(entries: list[dict[str, Any]]) -> Table | str:
    if not entries:
        return "Nothing is revoked."
    table = Table("number", *(Column(name, overflow="fold") for name in ("revoked", "by")), show_lines=True)
    for entry in entries:
        number = "-" if entry["id"] is None else str(entry["id"])
        revoked = stacked(f"{entry['kind']} {entry['value']}", entry["reason"])
        table.add_row(number, revoked, stacked(entry["by"], _when(entry["at"])))
    return table


def _when(at: float | None) -> str:
    """Return a moment (seconds since the epoch) as people read it; nothing where only the policy knows it."""
    return "" if at is None else f"{dt.datetime.fromtimestamp(at, dt.UTC):%Y-%m-%d %H:%M} UTC"
