"""`policy`: is this policy folder right, and does anyone hold too much under it?"""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from mcp_sod.cli.doubts import doubts
from mcp_sod.cli.review import review
from mcp_sod.errors import PolicyError
from mcp_sod.identity.saml import certificates_are_there
from mcp_sod.identity.tokens import key_files_are_there
from mcp_sod.policy.load import load

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Check a policy.\n\nExample: policy.py check policies")  # fmt: skip


@app.callback()
def main() -> None:
    """Check a policy before it is used."""


@app.command()
def check(folder: Annotated[Path, typer.Argument(help="The policy folder.")] = Path("policies")) -> None:
    """Load a policy folder as the gateway would; exit status 0 only if all is well.

    Example: policy.py check policies
    """
    out = Console(soft_wrap=True)
    try:
        policy = load(folder)
        key_files_are_there(policy)
        certificates_are_there(policy)
    except PolicyError as error:
        out.print(f"[red]wrong:[/red] {escape(str(error))}")
        raise typer.Exit(1) from None
    out.print(f"[green]right:[/green] {escape(str(policy.folder))}, digest {policy.digest[:16]}")
    if not policy.document.identity:
        out.print(f"Every call is refused until {escape(str(policy.identity_file))} names an identity provider.")
    for doubt in doubts(policy):
        out.print(f"[yellow]but:[/yellow] {escape(doubt)}")


app.command()(review)
