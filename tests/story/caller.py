"""A client of the bank: the official SDK's, with HTTP_PROXY in its environment and nothing else changed.

`HTTP_PROXY=… SOD_TOKEN=… python -m tests.story.caller URL TOOL '{"id": 1}'` makes one call by hand.
"""

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Self

import httpx2
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import CallToolResult, TextContent

from tests.world.client import sdk_client


@dataclass(frozen=True, slots=True)
class Seen:
    """What a caller saw: a result, or a refusal with its code and, if the call is held, its ticket."""

    text: str
    structured: Any = None
    refused: bool = False
    code: str = ""
    ticket: str = ""

    @classmethod
    def of_result(cls, result: CallToolResult) -> Self:
        """What a tool's result says."""
        text = "\n".join(block.text for block in result.content if isinstance(block, TextContent))
        meta = result.meta or {}
        code, ticket = str(meta.get("mcp-sod/code", "")), str(meta.get("mcp-sod/ticket", ""))
        return cls(text, result.structured_content, bool(result.is_error), code, ticket)

    @classmethod
    def of_error(cls, error: MCPError) -> Self:
        """What a JSON-RPC error says."""
        facts = error.error.data if isinstance(error.error.data, dict) else {}
        return cls(error.error.message, None, refused=True, code=str(facts.get("code", "")))


def call(
    url: str,
    token: str,
    proxy: str | None,
    tool: str,
    arguments: Mapping[str, Any],
    *,
    auth: httpx2.Auth | None = None,
) -> Seen:
    """Connects, calls one tool, and leaves; a refusal is something seen, not an exception."""
    try:
        return Seen.of_result(asyncio.run(_call(sdk_client(url, token, proxy=proxy, auth=auth), tool, arguments)))
    except MCPError as error:
        return Seen.of_error(error)
    except ExceptionGroup as group:
        return Seen.of_error(_refusal(group))


async def _call(
    connected: AbstractAsyncContextManager[Client], tool: str, arguments: Mapping[str, Any]
) -> CallToolResult:
    async with connected as client:
        return await client.call_tool(tool, dict(arguments))


def _refusal(group: ExceptionGroup[Exception]) -> MCPError:
    for error in group.exceptions:
        if isinstance(error, MCPError):
            return error
        if isinstance(error, ExceptionGroup):
            return _refusal(error)
    raise group


def main(url: str, tool: str, arguments: str = "{}") -> int:
    """Makes one call with what the environment says, and prints what was seen."""
    seen = call(url, os.environ.get("SOD_TOKEN", ""), os.environ.get("HTTP_PROXY"), tool, json.loads(arguments))
    sys.stdout.write(f"{seen.text}\n")
    return 1 if seen.refused else 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
