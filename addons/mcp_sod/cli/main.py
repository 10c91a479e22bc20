"""`sod`: the commands of an installed package; in a checkout, `scripts/*.py` are the same."""

from pathlib import Path

import typer

from mcp_sod.cli import approve, audit, collect, doctor, policy, revoke

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Segregation of duties for MCP.")
app.add_typer(approve.app, name="approve")
app.add_typer(audit.app, name="audit")
app.add_typer(collect.app, name="collect")
app.add_typer(doctor.app, name="doctor")
app.add_typer(policy.app, name="policy")
app.add_typer(revoke.app, name="revoke")


@app.command("addon-path")
def addon_path() -> None:
    """Print the script that mitmdump loads.

    Example: mitmdump -s "$(sod addon-path)" --set sod_policy=policies
    """
    package = Path(__file__).parents[1]
    installed, checkout = package / "sod.py", package.parent / "sod.py"
    typer.echo(installed if installed.is_file() else checkout)
