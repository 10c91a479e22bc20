"""What a sender is told in place of a result that goes to someone else, and the tool with which that one gets it.

Sources: MCP 2025-11-25 and 2026-07-28, tools and tasks.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final, Literal

from mcp_sod.errors import Withheld
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.splice import NAME, spans, splice
from mcp_sod.wire.strict_json import Json, Path, digits, dumps

type Outcome = Literal["result", "failure", "nothing"]

_ASKING: Final = frozenset({"resultType", "inputRequests", "requestState", "_meta"})
_PROGRESS: Final = ("progressToken", "progress", "total")
_LONGEST_NUMBER: Final = 20  # characters: progress is a number, not a text in digits
_TOOLS: Final[Path] = ("result", "tools")


@dataclass(frozen=True, slots=True)
class Receipt:
    """For what a result waits: the role that may collect it, until when (seconds since the epoch)."""

    id: str
    role: str
    expires: int

    @property
    def until(self) -> str:
        """The end of its time, as people and models read it."""
        return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(self.expires))


@dataclass(frozen=True, slots=True)
class Handed:
    """The result goes to whoever holds the receipt's role; `alias` is the call's id as the upstream gets it.

    Nobody else knows the alias, so that an answer to this call is taken for no other's, on whichever stream it comes.
    """

    receipt: Receipt
    alias: str


def receipt_text(call: Call, receipt: Receipt, outcome: Outcome, status: int, tool: str) -> str:
    """Return the JSON text that the sender gets; of what the upstream said it holds whether the tool failed, no more.

    `status`: the reply's, with which an HTTP error stays an error; `tool`: the name of the tool to collect with.
    """
    how = f"under the receipt {receipt.id} until {receipt.until} (tool {tool}, or the gateway's console)"
    who = f"someone with the role {receipt.role} who is not behind this call"
    sentence = {
        "result": f"Done. The result is kept for {who}, to be collected once {how}.",
        "failure": f"The tool failed. Why is kept for {who}, to be collected once {how}.",
        "nothing": f"The upstream gave no result, so nothing waits under the receipt {receipt.id}.",
    }[outcome]
    meta = {"mcp-sod/receipt": receipt.id}
    answer: dict[str, object] = {"jsonrpc": "2.0", "id": call.request_id}
    if status >= 400:
        answer["error"] = {"code": Withheld.rpc_code, "message": sentence, "data": meta}
    else:
        content = [{"type": "text", "text": sentence}]
        kind = {"resultType": "complete"} if call.stateless else {}
        answer["result"] = {"content": content, "isError": outcome != "result", "_meta": meta} | kind
    return dumps(answer)


def untasked(params: Json) -> bool:
    """Say whether a `tools/call` asks for no task, in whatever case a lenient server may read the key."""
    return not (isinstance(params, dict) and any(key.casefold() == "task" for key in params))


def asks_back(message: dict[str, Json], call: Call) -> bool:
    """Say whether an answer is the server's question, of a call that goes on (MCP 2026-07-28, multi-round requests).

    Raises Withheld where something else stands beside the question, and for a task, of which the result comes later.
    """
    result = message.get("result")
    if not isinstance(result, dict):
        return False
    kind = result.get("resultType", "complete")
    if kind == "task" or isinstance(result.get("task"), dict) or "taskId" in result:
        raise Withheld("The upstream made a task of a call whose result goes to someone else.")
    if kind == "input_required" and call.stateless:
        if result.keys() <= _ASKING:
            return True
        raise Withheld("The upstream asked something and answered at once.")
    if kind != "complete" and call.stateless:
        raise Withheld("The upstream's result is of a kind that is not known here.")
    return False


def bare_progress(text: str, message: dict[str, Json], call: Call) -> str | None:
    """Return a progress notification as numbers alone; None for any other notification, and for another call's."""
    params, asked = message.get("params"), call.message.get("params")
    meta = asked.get("_meta") if isinstance(asked, dict) else None
    token = meta.get("progressToken") if isinstance(meta, dict) else None
    if message.get("method") != "notifications/progress" or not isinstance(params, dict) or token is None:
        return None
    if params.get("progressToken") != token or not all(_is_plain(params.get(name, 0)) for name in _PROGRESS[1:]):
        return None
    found = spans(text, {("params", name) for name in _PROGRESS})
    said = ",".join(f'"{path[-1]}":{text[start:end]}' for path, (start, end) in found.items())
    return f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{{{said}}}}}'


def _is_plain(value: Json) -> bool:
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return False
    return len(digits(value)) <= _LONGEST_NUMBER


def outcome_text(text: str, message: dict[str, Json]) -> str:
    """Return an answer's outcome alone, as it was written: `{"result": …}` or `{"error": …}`."""
    name = "result" if "result" in message else "error"
    start, end = spans(text, {(name,)})[name,]
    return f'{{"{name}":{text[start:end]}}}'


def collected_text(call: Call, outcome: str, value: Json) -> str:
    """Return the answer that gives a kept outcome (its text and value) to a call of either era."""
    result = value.get("result") if isinstance(value, dict) else None
    if call.stateless and isinstance(result, dict) and "resultType" not in result:
        begin = '{"result":{'
        rest = outcome.removeprefix(begin)
        outcome = f'{begin}"resultType":"complete"{"," if result else ""}{rest}'
    return f'{{"jsonrpc":"2.0","id":{dumps(call.request_id)},{outcome[1:]}'


def tools_shown(text: str, message: dict[str, Json], handed: Callable[[str], bool], *, own: str | None) -> str:
    """Return a `tools/list` answer as it is where results go to someone else.

    Tools that are `handed` over promise no `outputSchema` to their callers, who would refuse a receipt for it; `own`
    is the JSON text of the gateway's own tool, where it is to be shown.
    """
    result = message.get("result")
    tools = result.get("tools") if isinstance(result, dict) else None
    if not isinstance(tools, list):
        return text
    changes = {
        (*_TOOLS, index): _without_schema(text, (*_TOOLS, index), tool)
        for index, tool in enumerate(tools)
        if isinstance(tool, dict) and "outputSchema" in tool and handed(str(tool.get("name")))
    }
    text = splice(text, changes) if changes else text
    if own is None:
        return text
    _, end = spans(text, {_TOOLS})[_TOOLS]
    return f"{text[: end - 1]}{',' if tools else ''}{own}{text[end - 1 :]}"


def _without_schema(text: str, path: Path, tool: dict[str, Json]) -> str:
    kept = [key for key in tool if key != "outputSchema"]
    found = spans(text, {(*path, key) for key in kept} | {(*path, key, NAME) for key in kept})
    members = (f"{text[slice(*found[*path, key, NAME])]}:{text[slice(*found[*path, key])]}" for key in kept)
    return f"{{{','.join(members)}}}"


def collecting_tool(name: str, roles: list[str]) -> str:
    """Return the JSON text of the gateway's own tool, for whoever holds one of these roles."""
    described = "The receipt, such as r-0123456789abcdef."
    receipt = {"type": "string", "pattern": "^r-[0-9a-f]{16}$", "description": described}
    one = {"type": "object", "properties": {"receipt": receipt}, "required": ["receipt"], "additionalProperties": False}
    return dumps({
        "name": name,
        "title": "Collect a result",
        "description": "Collect, once, a result that another person's call has left for the role "
        f"{' or '.join(roles)}: give the receipt that the caller got in its place.",
        "inputSchema": one,
    })  # fmt: skip
