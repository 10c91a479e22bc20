"""What MCP servers answer, and what the gateway says in their place.

Sources: JSON-RPC 2.0; MCP 2025-11-25 and 2026-07-28.
"""

from collections.abc import Callable
from typing import Final

from mcp_sod.errors import Denied, Refusal, Withheld
from mcp_sod.wire.conversation import Conversation
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.ownership import Owner
from mcp_sod.wire.splice import spans
from mcp_sod.wire.strict_json import Json, Path, dumps

RELATED_TASK: Final = "io.modelcontextprotocol/related-task"
# Where a server's message names what belongs to one principal.
STATE: Final[Path] = ("result", "requestState")
TASKS: Final[frozenset[Path]] = frozenset({
    ("result", "taskId"), ("result", "task", "taskId"), ("params", "taskId"),
    ("result", "_meta", RELATED_TASK, "taskId"), ("params", "_meta", RELATED_TASK, "taskId"),
})  # fmt: skip
_NAMING: Final = frozenset(path[1] for path in (STATE, *TASKS))
MOST_NAME: Final = 256  # characters of a method or id that a server makes up
WATCHED: Final[Path] = ("params", "notifications", "taskIds")  # of `subscriptions/listen` and its acknowledgement


def refusal_body(call: Call | None, refusal: Refusal, reference: str, ticket: str | None) -> bytes:
    """Return the JSON that tells the caller of a refusal, in the shape that the call's sender parses."""
    facts = {"code": refusal.code, "reference": reference} | ({"ticket": ticket} if ticket else {})
    sentence = f"{refusal.for_caller} (reference {reference})"
    request_id = call.request_id if call and call.is_request else refusal.request_id
    answer: dict[str, object] = {"jsonrpc": "2.0", "id": request_id}
    if refusal.in_band and refusal.as_result and call is not None and call.tool is not None:
        answer["result"] = {
            "content": [{"type": "text", "text": sentence}],
            "isError": True,
            "_meta": {f"mcp-sod/{key}": value for key, value in facts.items()},
        } | ({"resultType": "complete"} if call.stateless else {})
    else:
        answer["error"] = {"code": refusal.rpc_code, "message": sentence, "data": facts}
    return dumps(answer).encode()


def check_reply(message: Json, call: Call, talk: Conversation, *, streamed: bool, late: bool) -> dict[str, Json]:
    """Return the message.

    In the reply to a request that is its answer, and, in a stream, whatever the server may say meanwhile. `late`: on
    this stream, which is one principal's alone, answers to any of that principal's requests may come. Raises Withheld
    for anything else: an answer to another's request would slip one person's result to another.
    """
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Withheld("The upstream's reply is not a JSON-RPC message.")
    keys = message.keys()
    if keys in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}):
        if not (late or _answers(message, call)):
            raise Withheld("The upstream's reply answers a different request.")
        return message
    if not (streamed and "method" in keys and keys <= {"jsonrpc", "id", "method", "params"}):
        raise Withheld("The upstream's reply is not a JSON-RPC answer.")
    method = message["method"]
    if not isinstance(method, str) or len(method) > MOST_NAME:
        raise Withheld("The upstream's reply names a method that is no short text.")
    if "id" in keys:
        request_id = message["id"]
        if isinstance(request_id, bool) or not isinstance(request_id, int | str) or len(str(request_id)) > MOST_NAME:
            raise Withheld("The upstream asked the client something under an id that is not plain.")
        if call.stateless:
            raise Withheld("The upstream asked the client something that it cannot answer.")
        talk.demand(request_id, method)
    return message


def _answers(message: dict[str, Json], call: Call) -> bool:
    answered = message["id"]
    if answered is None:
        return "error" in message
    # To Python true is 1.
    return call.is_request and answered == call.request_id and type(answered) is type(call.request_id)


def is_tool_list(message: dict[str, Json]) -> bool:
    """Say whether this is, by its shape, the answer to a `tools/list`."""
    result = message.get("result")
    return isinstance(result, dict) and isinstance(result.get("tools"), list)


def declined(call: Call, reference: str) -> bytes:
    """Return what a server gets in place of a client's answer that was refused, so that it does not wait for ever."""
    sentence = f"The answer was refused by the gateway (reference {reference})"
    error = {"code": Denied.rpc_code, "message": sentence}
    return dumps({"jsonrpc": "2.0", "id": call.request_id, "error": error}).encode()


def tags(message: dict[str, Json], owner: Owner) -> dict[Path, str]:
    """Return the changes that bind what the message names to its owner."""
    result = message.get("result")
    if "method" not in message and (not isinstance(result, dict) or _NAMING.isdisjoint(result)):
        return {}
    found = {path: _at(message, path) for path in (STATE, *TASKS)}
    if str(message.get("method", "")).startswith("tasks/"):
        del found["params", "taskId"]  # the server asks for a task of the client's
    watched = _at(message, WATCHED)
    found |= {(*WATCHED, index): task for index, task in enumerate(watched if isinstance(watched, list) else ())}
    return {
        path: dumps(owner.tagged("state" if path == STATE else "task", value))
        for path, value in found.items()
        if isinstance(value, str)
    }


def kept_private(message: dict[str, Json], *, listing: bool) -> dict[Path, str]:
    """Return the change that keeps shared caches from giving one principal's answer to another (MCP 2026-07-28)."""
    result = message.get("result")
    if not isinstance(result, dict):
        return {}
    if "cacheScope" in result:
        return {} if result["cacheScope"] == "private" else {("result", "cacheScope"): '"private"'}
    if listing and (kind := result.get("resultType")) == "complete":
        return {("result", "resultType"): f'{dumps(kind)},"cacheScope":"private"'}
    return {}


def _at(value: Json, path: Path) -> Json:
    for part in path:
        if not isinstance(value, dict) or not isinstance(part, str):
            return None
        value = value.get(part)
    return value


def without_tools(text: str, message: dict[str, Json], visible: Callable[[str], bool]) -> dict[Path, str]:
    """Return the change to a `tools/list` answer's text that leaves only the visible tools, each as it was written."""
    result = message.get("result")
    tools = result.get("tools") if isinstance(result, dict) else None
    if not isinstance(tools, list):
        return {}
    kept = [index for index, tool in enumerate(tools) if _tool_name(tool, visible)]
    if len(kept) == len(tools):
        return {}
    where: list[Path] = [("result", "tools", index) for index in kept]
    found = spans(text, set(where))
    return {("result", "tools"): "[" + ",".join(text[slice(*found[path])] for path in where) + "]"}


def _tool_name(tool: Json, visible: Callable[[str], bool]) -> bool:
    name = tool.get("name") if isinstance(tool, dict) else None
    return isinstance(name, str) and visible(name)
