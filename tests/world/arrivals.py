"""What reached a server: every HTTP request, written down before the server acts on it."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send


@dataclass(frozen=True, slots=True)
class Arrival:
    """One HTTP request as it arrived; header names are lower case, in the order sent."""

    method: str
    path: str
    headers: list[tuple[str, str]]
    body: str
    complete: bool

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)

    @property
    def rpc_method(self) -> str | None:
        """The JSON-RPC method it carries, if it carries one."""
        return self.json.get("method") if self.method == "POST" and self.body else None

    def header(self, name: str) -> list[str]:
        """Every value sent under this name."""
        return [value for key, value in self.headers if key == name.lower()]


class Arrivals:
    """A file with one JSON line a request, which the server writes and the test reads."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def add(self, arrival: Arrival) -> None:
        """Appends one line."""
        line = json.dumps({name: getattr(arrival, name) for name in Arrival.__slots__})
        with self.file.open("a") as out:
            out.write(line + "\n")

    def read(self) -> list[Arrival]:
        """All of them, oldest first."""
        if not self.file.exists():
            return []
        found = [json.loads(line) for line in self.file.read_text().splitlines()]
        return [Arrival(**{**one, "headers": [(key, value) for key, value in one["headers"]]}) for one in found]

    def forget(self) -> None:
        """Starts anew."""
        self.file.unlink(missing_ok=True)


class Recorder:
    """ASGI middleware that writes each request down, then hands it on unchanged."""

    def __init__(self, app: ASGIApp, arrivals: Arrivals) -> None:
        self.app = app
        self.arrivals = arrivals

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Reads the whole request first, so that a server that fails on it cannot leave it unrecorded."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        messages = await _whole_request(receive)
        self.arrivals.add(_arrival(scope, messages))

        async def replay() -> Message:
            return messages.pop(0) if messages else await receive()

        await self.app(scope, replay, send)


async def _whole_request(receive: Receive) -> list[Message]:
    messages = [await receive()]
    while messages[-1].get("more_body"):
        messages.append(await receive())
    return messages


def _arrival(scope: Scope, messages: list[Message]) -> Arrival:
    query = scope["query_string"].decode("latin-1")
    return Arrival(
        method=scope["method"],
        path=scope["raw_path"].decode("latin-1") + (f"?{query}" if query else ""),
        headers=[(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]],
        # surrogateescape keeps bytes that are not UTF-8, so that a test can have them back
        body=b"".join(message.get("body", b"") for message in messages).decode(errors="surrogateescape"),
        complete=messages[-1]["type"] == "http.request",
    )
