"""An MCP server, built with the official SDK, that talks back: it asks, samples, reports, notifies and hangs up.

`python -m tests.world.talker --port 9000 --data DIR [--json]` serves streamable HTTP at `/mcp` and the transport of
2024-11-05 at `/sse`; `Talker` runs that for a test. Nearly all that it says holds a secret, so that a test can see
whether it came out masked.
"""

import argparse
import asyncio
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import uvicorn
from mcp.server import ServerRequestContext
from mcp.server.mcpserver import Context, Elicit, ElicitationResult, MCPServer, Resolve
from mcp.server.streamable_http import EventCallback, EventMessage, EventStore
from mcp.types import (
    CreateMessageRequest,
    CreateMessageRequestParams,
    CreateMessageResult,
    EmptyResult,
    InputRequiredResult,
    JSONRPCMessage,
    ListRootsRequest,
    ListRootsResult,
    SamplingMessage,
    SubscribeRequestParams,
    TextContent,
)
from pydantic import BaseModel
from starlette.applications import Starlette

from tests.world.arrivals import Arrivals, Recorder
from tests.world.client import MODERN
from tests.world.process import Process, free_port

SECRET = "AKIA" + "BCDEFGHIJKLMNOPQ"  # matches the default policy's cloud-key; nobody's
NEWS = "talk://news"
RETRY = 50  # milliseconds after which a client whose stream was closed comes back

Ctx = Context[Any, Any]


class Answer(BaseModel):
    """What `ask` wants to know."""

    word: str


class Memory(EventStore):
    """Every event of every session, so that streams can be resumed; like the SDK's example, it knows no owners."""

    def __init__(self) -> None:
        self._events: list[tuple[str, JSONRPCMessage | None]] = []

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Keeps an event; its id counts from 1."""
        self._events.append((stream_id, message))
        return str(len(self._events))

    async def replay_events_after(self, last_event_id: str, send_callback: EventCallback) -> str | None:
        """Sends what came later on the same stream."""
        if not (last_event_id.isdecimal() and 0 < int(last_event_id) <= len(self._events)):
            return None
        stream, _ = self._events[int(last_event_id) - 1]
        for number, (of, message) in list(enumerate(self._events, 1))[int(last_event_id) :]:
            if of == stream and message is not None:
                await send_callback(EventMessage(message, str(number)))
        return stream


def build_server(fates: Path) -> MCPServer[Any]:
    """The server; how a call of `wait` ended is appended to the file."""
    server: MCPServer[Any] = MCPServer("talker", instructions=f"Talks. {SECRET}", log_level="WARNING")
    _ask_things(server)
    _tell_things(server)
    _have_news(server)

    @server.tool()
    async def wait(seconds: float, mark: str) -> str:
        """Waits, unless it is cancelled."""
        with _fate(fates, mark):
            await asyncio.sleep(seconds)
        return f"waited {SECRET}"

    return server


def _ask_things(server: MCPServer[Any]) -> None:
    """Tools that need something of the client's: in the middle of the call before 2026, between two calls since."""

    @server.tool()
    async def ask(answer: Annotated[ElicitationResult[Answer], Resolve(_question)]) -> str:
        """Asks the user for a word."""
        return f"{answer.action}: {getattr(answer, 'data', None)} {SECRET}"

    @server.tool()
    async def sample(context: Ctx) -> str | InputRequiredResult:
        """Asks the client's model."""
        prompt = [SamplingMessage(role="user", content=TextContent(type="text", text=f"Finish: {SECRET}"))]
        if context.protocol_version == MODERN:
            wanted = CreateMessageRequest(params=CreateMessageRequestParams(messages=prompt, max_tokens=9))
            said = (context.input_responses or {}).get("model")
            if not isinstance(said, CreateMessageResult):
                return InputRequiredResult(input_requests={"model": wanted}, request_state="half way")
            return f"{context.request_state}: {said.content} {SECRET}"
        here = context.request_id
        answer = await context.session.create_message(prompt, max_tokens=9, related_request_id=here)
        return f"half way: {answer.content} {SECRET}"

    @server.tool()
    async def roots(context: Ctx) -> str | InputRequiredResult:
        """Asks for the client's roots: before 2026 on the session's own stream, not on that of the call."""
        if context.protocol_version != MODERN:
            return f"{(await context.session.list_roots()).roots} {SECRET}"
        said = (context.input_responses or {}).get("roots")
        if not isinstance(said, ListRootsResult):
            return InputRequiredResult(input_requests={"roots": ListRootsRequest()})
        return f"{said.roots} {SECRET}"


def _question() -> Elicit[Answer]:
    return Elicit(f"Which word goes with {SECRET}?", Answer)


def _tell_things(server: MCPServer[Any]) -> None:
    """Tools that speak before they answer."""

    @server.tool()
    async def report(context: Ctx, steps: int = 3, pause: float = 0.05) -> str:
        """Reports progress and logs at every step."""
        for step in range(1, steps + 1):
            await context.report_progress(step, steps, f"step {step} at {SECRET}")
            await context.info(f"log {step} of {SECRET}")
            await asyncio.sleep(pause)
        return f"{steps} steps {SECRET}"

    @server.tool()
    async def poll(context: Ctx) -> str:
        """Closes its stream early and goes on: the client has to come back for the rest (SEP-1699)."""
        await context.info(f"before {SECRET}")
        await context.close_sse_stream()
        await asyncio.sleep(0.2)
        await context.info(f"after {SECRET}")
        return f"came back {SECRET}"


def _have_news(server: MCPServer[Any]) -> None:
    """A resource to subscribe to; `touch` tells the session that calls it, and whoever listens."""

    @server.tool()
    async def touch(context: Ctx) -> str:
        """Tells subscribers that the news have changed."""
        await context.notify_resource_updated(NEWS)
        await context.session.send_resource_updated(NEWS)
        return "touched"

    @server.resource(NEWS)
    def news() -> str:
        """Something to subscribe to."""
        return f"news of {SECRET}"

    async def agree(_context: ServerRequestContext[Any, Any], _params: SubscribeRequestParams) -> EmptyResult:
        return EmptyResult()

    for method in ("resources/subscribe", "resources/unsubscribe"):
        # The SDK has no public way.
        server._lowlevel_server.add_request_handler(method, SubscribeRequestParams, agree)  # noqa: SLF001


@contextmanager
def _fate(file: Path, mark: str) -> Iterator[None]:
    end = "cancelled"
    try:
        yield
        end = "finished"
    finally:
        with file.open("a") as out:
            out.write(f"{mark} {end}\n")


def build_app(server: MCPServer[Any], *, json_replies: bool) -> Starlette:
    """Both transports of one server."""
    app = server.streamable_http_app(json_response=json_replies, event_store=Memory(), retry_interval=RETRY)
    app.router.routes.extend(server.sse_app().routes)
    return app


class Talker(Process):
    """The talker as a process, with what arrived at it and how its waiting calls ended."""

    def __init__(self, folder: Path, *, json_replies: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.origin = f"http://127.0.0.1:{self.port}"
        self.arrivals = Arrivals(folder / "arrivals.jsonl")
        self._fates = folder / "fates"
        command = [sys.executable, "-m", "tests.world.talker", "--port", str(self.port), "--data", str(folder)]
        super().__init__([*command, *(["--json"] if json_replies else [])], folder / "talker.log", ports=[self.port])

    def fates(self) -> list[str]:
        """How each call of `wait` ended: its mark, and `cancelled` or `finished`."""
        return self._fates.read_text().splitlines() if self._fates.exists() else []


def main() -> None:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--json", action="store_true", help="reply with JSON instead of SSE")
    arguments = parser.parse_args()
    app = build_app(build_server(arguments.data / "fates"), json_replies=arguments.json)
    recorded = Recorder(app, Arrivals(arguments.data / "arrivals.jsonl"))
    # The grace is short because a client may hold a GET stream open for ever.
    uvicorn.run(recorded, host="127.0.0.1", port=arguments.port, log_level="warning", timeout_graceful_shutdown=1)


if __name__ == "__main__":
    main()
