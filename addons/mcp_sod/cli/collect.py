"""`collect`: list and get results that went past their senders, with the viewer's own token; the gateway decides."""

import json
from typing import Annotated, Any

import typer
from rich.table import Column, Table

from mcp_sod.cli.asking import LOCAL, AsJson, Gateway, Token, ask, ask_text, left, plain, show_answer, stacked

app = typer.Typer(
    no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
    help="Collect results that were not for their senders.\n\n"
    "Example: collect.py list --gateway http://127.0.0.1:8081 --token $TOKEN",
)  # fmt: skip

type Answer = dict[str, Any]
ReceiptId = Annotated[str, typer.Argument(help="The receipt, such as r-0123456789abcdef.")]


@app.command("list")
def list_deliveries(token: Token, gateway: Gateway = LOCAL, as_json: AsJson = False) -> None:
    """List what waits for you, and what you sent.

    Example: collect.py list --json
    """
    show_answer(ask(gateway, token, "GET", "/api/v1/deliveries"), _table, as_json=as_json)


@app.command()
def get(receipt: ReceiptId, token: Token, gateway: Gateway = LOCAL, as_json: AsJson = False) -> None:
    """Get one result, once; it is on record who got it.

    Example: collect.py get r-0123456789abcdef
    """
    text, found = ask_text(gateway, token, "POST", f"/api/v1/deliveries/{receipt}/collect")
    if as_json:
        typer.echo(text)
    else:
        show_answer(found, _readable, as_json=False)


def _table(deliveries: list[Answer]) -> Table | str:
    if not deliveries:
        return "Nothing waits for you, and you sent nothing that does."
    kept = Column("receipt", no_wrap=True)  # an id that is cut cannot be copied
    table = Table(kept, *(Column(name, overflow="fold") for name in ("call", "you")), show_lines=True)
    for one in deliveries:
        table.add_row(
            stacked(one["receipt"], one["state"], f"{left(one['expires'])} left"),
            stacked(f"{one['upstream']}: {one['tool']}", f"from {one['sender']}", f"for the role {one['role']}"),
            stacked("may collect" if one["may_collect"] else one["why_not"]),
        )
    return table


def _readable(found: Answer) -> str:
    """Return a result's texts, or all of it where it is made of something else as well."""
    result = found.get("result")
    content = result.get("content") if isinstance(result, dict) else None
    parts = content if isinstance(content, list) else []
    texts = [part["text"] for part in parts if isinstance(part, dict) and isinstance(part.get("text"), str)]
    if texts and len(texts) == len(parts):
        return plain("\n".join(texts))
    return plain(json.dumps(found.get("error", result), indent=2, ensure_ascii=False))
