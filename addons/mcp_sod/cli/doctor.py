"""`doctor`: is everything around the gateway as it should be?"""

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import typer
from rich.console import Console
from rich.progress import Progress
from rich.text import Text

from mcp_sod.cli.bypass import Outcome, Place, try_all
from mcp_sod.errors import PolicyError, SodError
from mcp_sod.policy.load import load
from mcp_sod.policy.units import seconds
from mcp_sod.policy.upstreams import Speaks, Upstream

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False,
                  help="Look for a way round the gateway.\n\nExample: doctor.py bypass policies")  # fmt: skip


@app.callback()
def main() -> None:
    """Look for what a policy cannot see."""


def _duration(written: str) -> float:
    try:
        return seconds(f"{written}s" if written.isdecimal() else written)
    except ValueError as error:
        raise typer.BadParameter(f"It {error}.") from None


Folder = Annotated[
    Path | None, typer.Argument(help="The policy folder whose upstreams are tried; `policies` without --url.")
]
Urls = Annotated[
    list[str] | None,
    typer.Option("--url", help="Try this; once for each. Without FOLDER, no policy is needed.", show_default=False),
]
Protocol = Annotated[Speaks, typer.Option(help="What is spoken at each --url.")]
Timeout = Annotated[float, typer.Option(parser=_duration, metavar="TIME", help="How long to wait for each step.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command()
def bypass(
    folder: Folder = None, url: Urls = None, speaks: Protocol = "mcp", timeout: Timeout = "5s",  # type: ignore[assignment]  # the parser makes it seconds
    as_json: AsJson = False,
) -> None:  # fmt: skip
    """Try to reach each upstream directly, from where this runs, past any proxy; run it where the clients are.

    No credential is shown, no tool called. closed: no connection. guarded: it answers, but only to refuse (401, 403).
    open: it answers anything else. unknown: neither is shown, such as for a name that is not known here.
    Exit status 0 only if all are closed, 2 if nothing could be tried.

    Example: doctor.py bypass --url https://mcp.internal.example/mcp --timeout 3s
    """
    try:
        places = [*_of_policy(folder, url or []), *_given(url or [], speaks)]
    except SodError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
    outcomes = _tried(places, timeout)
    typer.echo(json.dumps([_record(one) for one in outcomes], indent=2)) if as_json else _tell(outcomes)
    raise typer.Exit(0 if all(one.verdict == "closed" for one in outcomes) else 1)


def _of_policy(folder: Path | None, urls: Sequence[str]) -> list[Place]:
    if folder is None and urls:
        return []
    document = load(folder or Path("policies")).document
    if not document.upstreams and not urls:
        raise PolicyError("The policy names no upstream, so there is nothing to try.", hint="Give --url URL.")
    return [Place(name, upstream.url, upstream.speaks) for name, upstream in document.upstreams.items()]


def _given(urls: Sequence[str], speaks: Speaks) -> list[Place]:
    """Return the places of URLs, which must be as those of a policy must."""
    try:
        return [Place(urlsplit(url).netloc, Upstream(url=url, speaks=speaks).url, speaks) for url in urls]
    except ValueError:
        raise PolicyError(
            "--url is not http(s)://host[:port]/path with no user and no fragment.", hint="Write it as in a policy."
        ) from None


def _tried(places: Sequence[Place], timeout: float) -> list[Outcome]:
    """Try the places, with a progress bar on stderr if someone is watching."""
    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Going round the gateway", total=len(places))
        return asyncio.run(try_all(places, timeout, lambda _: bar.advance(task)))


def _record(one: Outcome) -> dict[str, object]:
    found = asdict(one)
    return {**found.pop("place"), "url": one.place.shown, **found, "note": one.note}


_COLOURS = {"closed": "green", "guarded": "yellow", "unknown": "yellow", "open": "red"}


def _tell(outcomes: Sequence[Outcome]) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for one in outcomes:
        console.print(
            Text(f"{one.verdict}:", _COLOURS[one.verdict]), Text(f"{one.place.name} {one.place.shown}: {one.reason}")
        )
        if one.note:
            console.print(Text("  but:", "yellow"), Text(one.note))
    left = sum(one.verdict != "closed" for one in outcomes)
    if left:
        console.print(Text(f"{left} of {len(outcomes)} are not shown to be closed from here.", "bold red"))
    else:
        console.print(Text(f"No way round from here: {len(outcomes)} tried.", "bold green"))
