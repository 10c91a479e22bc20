"""Clients: the official SDK's, led through a proxy by HTTP_PROXY alone, and a bare one for one request."""

import os
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Literal

import httpx
import httpx2
from mcp.client import Client
from mcp.client.streamable_http import streamable_http_client

Era = Literal["2025-11-25", "2026-07-28"]
LEGACY: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
ERAS: tuple[Era, ...] = (LEGACY, MODERN)
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")
META = "io.modelcontextprotocol/"


def proxy_environment(proxy: str | None) -> dict[str, str | None]:
    """The environment in which clients use this proxy, or none; None stands for "not set".

    Both spellings are settled, and NO_PROXY is taken away, since it often names 127.0.0.1.
    """
    names = [spelling for name in PROXY_VARIABLES for spelling in (name, name.lower())]
    return {**dict.fromkeys(names), "HTTP_PROXY": proxy}


@contextmanager
def environment(variables: Mapping[str, str | None]) -> Iterator[None]:
    """Sets and takes away environment variables for a while."""
    before = {name: os.environ.get(name) for name in variables}
    _put(variables)
    try:
        yield
    finally:
        _put(before)


def _put(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@asynccontextmanager
async def sdk_client(
    url: str,
    token: str | None = None,
    *,
    proxy: str | None = None,
    era: Era | Literal["auto"] = "auto",
    patience: float = 60,
    auth: httpx2.Auth | None = None,
    **options: Any,
) -> AsyncIterator[Client]:
    """The SDK's client, connected; `auto` is what it does by itself, `options` go to its constructor.

    Args:
        url: The MCP endpoint; behind a reverse-mode gateway, the gateway's.
        token: Sent as `Authorization: Bearer`.
        proxy: Put into HTTP_PROXY while the HTTP client reads its environment.
        era: Which revision to speak.
        patience: Seconds until a read gives up.
        auth: Signs each request in a way of its own.
        options: Anything else `mcp.client.Client` takes.
    """
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with environment(proxy_environment(proxy)):
        http = httpx2.AsyncClient(headers=headers, timeout=httpx2.Timeout(patience), auth=auth)
    mode = "legacy" if era == LEGACY else era
    async with http, Client(streamable_http_client(url, http_client=http), mode=mode, **options) as client:
        yield client


def call_body(tool: str, arguments: Mapping[str, Any], *, era: Era = MODERN, id: Any = 1) -> dict[str, Any]:  # noqa: A002
    """The JSON-RPC message of a `tools/call`, as a client of this era writes it."""
    params: dict[str, Any] = {"name": tool, "arguments": dict(arguments)}
    if era == MODERN:
        params["_meta"] = {f"{META}protocolVersion": MODERN, f"{META}clientCapabilities": {}}
    return {"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": params}


def call_headers(tool: str, token: str | None = None, *, era: Era = MODERN) -> dict[str, str]:
    """The headers a client of this era sends with a `tools/call`."""
    headers = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": era,
    }
    if token:
        headers["Authorization"] = f"Bearer {token}"
    if era == MODERN:
        headers |= {"Mcp-Method": "tools/call", "Mcp-Name": tool}
    return headers


def raw_session(url: str, token: str | None = None, *, proxy: str | None = None) -> dict[str, str]:
    """Shakes hands as clients did before 2026; gives the session's header, for `raw_call(headers=…)`."""
    headers = call_headers("", token, era=LEGACY)
    client = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "raw", "version": "0"}}
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": client}
    with raw_http(proxy) as http:
        reply = http.post(url, json=hello, headers=headers).raise_for_status()
        session = {"Mcp-Session-Id": reply.headers["mcp-session-id"]}
        ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
        http.post(url, json=ready, headers=headers | session).raise_for_status()
    return session


def raw_call(
    url: str,
    tool: str,
    arguments: Mapping[str, Any] | None = None,
    *,
    token: str | None = None,
    proxy: str | None = None,
    era: Era = MODERN,
    headers: Mapping[str, str] | None = None,
    content: bytes | None = None,
) -> httpx.Response:
    """One `tools/call` as a plain POST; `headers` override, `content` replaces the body byte for byte."""
    sent = {**call_headers(tool, token, era=era), **(headers or {})}
    with raw_http(proxy) as http:
        if content is None:
            return http.post(url, json=call_body(tool, arguments or {}, era=era), headers=sent)
        return http.post(url, content=content, headers=sent)


def raw_http(proxy: str | None = None) -> httpx.Client:
    """A plain HTTP client that uses this proxy, or none, whatever the environment says."""
    return httpx.Client(proxy=proxy, trust_env=False, timeout=15)
