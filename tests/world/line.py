"""MCP over HTTP without a client: what one sends by hand, before 2026 in a session and since without."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urljoin

import httpx

from tests.world.client import LEGACY, META, MODERN, raw_http

CAPABILITIES: dict[str, dict[str, Any]] = {"elicitation": {}, "sampling": {}, "roots": {}}


@dataclass(frozen=True, slots=True)
class Heard:
    """One server-sent event; `message` is None where it has no data, and a text where it has no JSON."""

    id: str | None
    kind: str | None
    message: Any


class Line:
    """One person's connections to one server; `session` are the headers that tell the session."""

    def __init__(self, url: str, token: str, proxy: str | None) -> None:
        self.url = url
        self.session: dict[str, str] = {}
        self._headers = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {token}"}
        self._http = raw_http(proxy)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def begin(self, version: str = LEGACY) -> httpx.Response:
        """Shakes hands, and is in a session from then on; gives the answer to `initialize`."""
        client = {
            "protocolVersion": version,
            "capabilities": CAPABILITIES,
            "clientInfo": {"name": "raw", "version": "0"},
        }
        reply = self.post(request("initialize", client, id=0)).raise_for_status()
        self.session = {"Mcp-Session-Id": reply.headers["mcp-session-id"]}
        if version >= "2025-06-18":
            self.session["MCP-Protocol-Version"] = version
        self.post({"jsonrpc": "2.0", "method": "notifications/initialized"}).raise_for_status()
        return reply

    def post(self, message: Mapping[str, Any], *, path: str = "", **headers: str) -> httpx.Response:
        """Sends one message and reads the whole reply; `path` leads to another address of the server."""
        return self._http.post(urljoin(self.url, path), json=message, headers=self._all(headers))

    def modern(self, method: str, params: Mapping[str, Any], **headers: str) -> httpx.Response:
        """Sends one request as of 2026-07-28."""
        meta = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": CAPABILITIES}
        named = {"Mcp-Name": params["name"]} if "name" in params else {}
        said = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, **named}
        return self.post(request(method, {**params, "_meta": meta}), **said, **headers)

    def delete(self, **headers: str) -> httpx.Response:
        """Ends the session."""
        return self._http.delete(self.url, headers=self._all(headers))

    @contextmanager
    def open(self, message: Mapping[str, Any] | None = None, **headers: str) -> Iterator["Stream"]:
        """Opens a stream: the reply to a POST of the message or, without one, what a GET gives."""
        verb = "GET" if message is None else "POST"
        with self._http.stream(verb, self.url, headers=self._all(headers), json=message) as response:
            yield Stream(response)

    def _all(self, headers: Mapping[str, str]) -> dict[str, str]:
        return self._headers | self.session | {name.replace("_", "-"): value for name, value in headers.items()}


class Stream:
    """The events of one reply, as they come."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[Heard]:
        yield from events(self._lines)

    def until(self, method: str) -> Heard:
        """The next event with a message of this method."""
        return next(
            event for event in self if isinstance(event.message, dict) and event.message.get("method") == method
        )


def events(lines: Iterator[str]) -> Iterator[Heard]:
    """The events in these lines, comments left out."""
    fields: dict[str, str] = {}
    for line in lines:
        name, colon, value = line.partition(":")
        if not line and fields:
            yield _heard(fields)
            fields = {}
        elif name and colon:
            fields[name] = value.removeprefix(" ")


def _heard(fields: Mapping[str, str]) -> Heard:
    data = fields.get("data") or None
    return Heard(fields.get("id"), fields.get("event"), json.loads(data) if data and data[0] == "{" else data)


def request(method: str, params: Mapping[str, Any], *, id: int | str = 1) -> dict[str, Any]:  # noqa: A002 (as on the wire)
    """The JSON-RPC message of a request."""
    return {"jsonrpc": "2.0", "id": id, "method": method, "params": dict(params)}


def call(tool: str, *, id: int | str = 1, **arguments: Any) -> dict[str, Any]:  # noqa: A002 (as on the wire)
    """The JSON-RPC message of a `tools/call`."""
    return request("tools/call", {"name": tool, "arguments": arguments}, id=id)


def answer_of(reply: httpx.Response) -> dict[str, Any]:
    """The JSON-RPC answer in a whole reply, streamed or not."""
    if reply.headers["content-type"].startswith("application/json"):
        found: dict[str, Any] = reply.json()
        return found
    last = [event.message for event in events(iter(reply.text.splitlines())) if event.message][-1]
    assert isinstance(last, dict)
    return last
