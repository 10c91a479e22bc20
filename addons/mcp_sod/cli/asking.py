"""What commands share that ask a gateway's console, with the token of whoever runs them."""

import json
import time
from collections.abc import Callable
from typing import Annotated, Any

import httpx
import typer
from rich.console import Console
from rich.markup import escape

Gateway = Annotated[str, typer.Option(envvar="SOD_GATEWAY", help="The console's address.")]
Token = Annotated[
    str, typer.Option(envvar="SOD_TOKEN", help="Your own token; better in SOD_TOKEN.", show_default=False)
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]
LOCAL = "http://127.0.0.1:8081"


def ask(gateway: str, token: str, method: str, path: str, **request: Any) -> Any:
    """Return the console's answer; ends the command with one clear line when there is none or it is a refusal."""
    return ask_text(gateway, token, method, path, **request)[1]


def ask_text(gateway: str, token: str, method: str, path: str, **request: Any) -> tuple[str, Any]:
    """Return the console's answer as `ask` does, and before it its text, with every digit of its numbers."""
    headers = {"authorization": f"Bearer {token}"}
    try:
        with httpx.Client(base_url=gateway, headers=headers, timeout=30, trust_env=False) as client:
            answer = client.request(method, path, **request)
            body = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
        raise fail(
            f"No console answers at {gateway} ({type(error).__name__}).", "Give --gateway, or start it."
        ) from None
    if answer.is_error:
        raise fail(str(body.get("error", f"HTTP {answer.status_code}")), str(body.get("hint", "")))
    return answer.text, body


def fail(sentence: str, hint: str) -> typer.Exit:
    """Say on stderr what went wrong, and return what ends the command."""
    Console(stderr=True, soft_wrap=True, emoji=False).print(
        f"[red]refused:[/red] {plain(f'{sentence} {hint}'.strip())}"
    )
    return typer.Exit(1)


def show_answer(answer: Any, picture: Callable[[Any], object], *, as_json: bool) -> None:
    """Print an answer, as JSON or as people read it."""
    if as_json:
        typer.echo(json.dumps(answer))
    else:
        Console(soft_wrap=True, emoji=False).print(picture(answer))


def plain(text: str) -> str:
    """Return the text with everything a terminal could obey, or the eye could miss, written out."""
    return escape("".join(char if char.isprintable() or char == "\n" else f"\\u{ord(char):04x}" for char in text))


def stacked(*lines: str) -> str:
    """Return a cell of a table with these lines, none of which can pass for two; so tables fit into 80 columns."""
    return "\n".join(plain(line.replace("\n", " ")) for line in lines if line)


def left(expires: int) -> str:
    """Return how long it is until then (seconds since the epoch)."""
    rest = max(0, expires - int(time.time()))
    return f"{rest // 3600}h {rest % 3600 // 60:02}m" if rest >= 3600 else f"{rest // 60}m {rest % 60:02}s"
