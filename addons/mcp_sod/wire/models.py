"""Model APIs: one POSTed body becomes one Call; refusals get the shape that the APIs' own clients raise.

Sources: OpenAI's API reference (Chat Completions, Responses, Embeddings, error codes), Anthropic's (Messages, errors,
streaming), and the types of both official Python SDKs.
"""

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from mcp_sod.errors import Denied, Malformed
from mcp_sod.wire.mcp import MAX_NAME, Call
from mcp_sod.wire.strict_json import Json, dumps, parse

type Dialect = Literal["openai", "anthropic"]

# What is read here. All else (files, batches, stored conversations, agents, realtime) holds text that no rule sees.
ENDPOINTS: Final[dict[str, frozenset[str]]] = {
    "openai": frozenset({"chat/completions", "responses", "embeddings"}),
    "anthropic": frozenset({"messages", "messages/count_tokens"}),
}
REQUEST_ID: Final = "model"  # an HTTP request has no id of its own; each is answered
_TURNS: Final = {"chat/completions": "messages", "messages": "messages", "messages/count_tokens": "messages"}
_PROVIDER_MCP: Final = frozenset({"mcp_servers", "connector_id", "server_url", "tunnel_id"})
_STORED: Final = frozenset({"prompt", "conversation"})  # kept by the provider, with tools of their own
_READ_HERE: Final = _PROVIDER_MCP | {
    "model", "stream", "messages", "input", "instructions", "system", "tools", "tool_choice", "prompt", "conversation",
    "role", "content", "type", "text", "tool_calls", "function", "arguments",
}  # fmt: skip
# Where callers may use any key, and which no provider reads as its own: schemas, arguments and labels.
_FREE: Final = frozenset({"parameters", "input_schema", "schema", "metadata", "variables", "logit_bias", "headers"})


def read_model_call(dialect: Dialect, endpoint: str, body: bytes, max_depth: int) -> Call:
    """Return the one call in a POSTed body: its method is the endpoint (the path after `/v1/`), its name the model.

    Raises Malformed for what is no sound request of that endpoint.
    """
    if endpoint not in ENDPOINTS[dialect]:
        raise Denied("This part of the model's API is not read here.", hint=f"Use {' or '.join(_names(dialect))}.")
    message = parse(body, max_depth)
    if not isinstance(message, dict):
        raise Malformed("The body is not a JSON object.")
    for item in _objects(message, arguments=dialect == "anthropic"):
        _in_one_case(item)
    if not isinstance(message.get("stream", False), bool | None):
        raise Malformed("`stream` is true or false.")
    _sound(endpoint, message)
    name = message.get("model")
    if name is None and endpoint == "responses" and message.get("prompt") is not None:
        return Call(message, endpoint, REQUEST_ID, None, None)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise Malformed(f"The request names its model in `model`, in at most {MAX_NAME} characters.")
    return Call(message, endpoint, REQUEST_ID, name, None)


def check_provider(dialect: Dialect, message: dict[str, Json]) -> None:
    """Raise Denied where the provider would itself call MCP servers or use a stored prompt: no gateway sees that."""
    if _from_store(message) or any(map(_is_mcp, _objects(message, arguments=dialect == "anthropic"))):
        raise Denied(
            "The request lets the model's provider call MCP servers or use a stored prompt, past this gateway.",
            hint="Give tools as functions, and the conversation itself; or let the policy allow it.",
        )


def _names(dialect: Dialect) -> list[str]:
    return [f"`{endpoint}`" for endpoint in sorted(ENDPOINTS[dialect])]


def _objects(message: Json, *, arguments: bool) -> Iterator[dict[str, Json]]:
    """Yield the objects whose keys the provider reads, at any depth: tools stand in messages and in tools as well.

    `arguments`: whether the `input` of a `tool_use` is a tool's arguments, as Anthropic writes them.
    """
    todo: list[Json] = [message]
    while todo:
        item = todo.pop()
        if isinstance(item, list):
            todo.extend(item)
        elif isinstance(item, dict):
            yield item
            use = arguments and item.get("type") in ("tool_use", "server_tool_use")
            todo.extend(inner for key, inner in item.items() if key not in _FREE and not (use and key == "input"))


def _in_one_case(item: dict[str, Json]) -> None:
    if any(key not in _READ_HERE and key.strip().casefold() in _READ_HERE for key in item):
        # Some servers (Go's) read keys in any case, the last one winning: they would read another call than this.
        raise Malformed("A key differs in case alone from one that the API reads.")


def _is_mcp(item: dict[str, Json]) -> bool:
    kind = item.get("type")
    mcp = isinstance(kind, str) and kind.strip().casefold().startswith(("mcp", "connector"))
    return mcp or any(item.get(key) not in (None, []) for key in _PROVIDER_MCP)


def _from_store(message: dict[str, Json]) -> bool:
    """A stored prompt or conversation brings text that no rule has seen, and may bring tools, MCP's included."""
    return any(message.get(key) is not None for key in _STORED)


def _sound(endpoint: str, message: dict[str, Json]) -> None:
    turns = _TURNS.get(endpoint, "input")
    given = message.get(turns)
    if turns == "messages":
        if not isinstance(given, list) or not given:
            raise Malformed("`messages` is a list of messages.")
        for turn in given:
            if not isinstance(turn, dict) or not isinstance(turn.get("role"), str):
                raise Malformed("Each message is an object with a role.")
            _text_or_parts("content", turn.get("content"))
            _tool_calls(turn)
    elif endpoint == "responses":
        _text_or_parts("input", given)
    elif given is None:
        raise Malformed("`input` is missing.")
    for key in ("instructions", "system"):
        _text_or_parts(key, message.get(key))
    tools = message.get("tools")
    if tools is not None and not (isinstance(tools, list) and all(isinstance(tool, dict) for tool in tools)):
        raise Malformed("`tools` is a list of objects.")


def _text_or_parts(key: str, value: Json) -> None:
    if value is None or isinstance(value, str):
        return
    if not isinstance(value, list):
        raise Malformed(f"`{key}` is a text, or a list of parts.")
    for part in value:
        if not isinstance(part, dict) or not isinstance(part.get("text", ""), str):
            raise Malformed(f"Each part of `{key}` is an object whose `text`, if any, is a text.")
        _text_or_parts("content", part.get("content")) if isinstance(part.get("content"), list) else None


def _tool_calls(turn: dict[str, Json]) -> None:
    calls = turn.get("tool_calls")
    if calls is None:
        return
    for call in calls if isinstance(calls, list) else [None]:
        function = call.get("function", {}) if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("arguments", ""), str):
            raise Malformed("Each of `tool_calls` is an object; a function's arguments are a text.")


_OPENAI_TYPES: Final = {401: "authentication_error", 403: "permission_error", 429: "rate_limit_error"}
_ANTHROPIC_TYPES: Final = {
    400: "invalid_request_error", 401: "authentication_error", 403: "permission_error", 404: "not_found_error",
    413: "request_too_large", 429: "rate_limit_error",
}  # fmt: skip


class Told(NamedTuple):
    """What a refusal says: a sentence, its stable code, the reference of its record, and the ticket to wait for."""

    sentence: str
    code: str
    reference: str
    ticket: str | None = None


def model_refusal(dialect: Dialect, status: int, told: Told) -> bytes:
    """Return the body of a refusal with this HTTP status, as the API's own clients parse it."""
    return dumps(_error(dialect, status, told)).encode()


def stream_error(dialect: Dialect, endpoint: str, told: Told, sequence_number: int = 0) -> tuple[str | None, str]:
    """Return the event (its type and data) that ends a stream whose rest is withheld, so that clients raise.

    OpenAI's clients raise at any event whose data has a true `error`, Anthropic's at an event of type `error`.
    `sequence_number` is the next one of a Responses stream.
    """
    error = _error(dialect, 502, told)
    if dialect == "anthropic":
        return "error", dumps(error)
    if endpoint != "responses":
        return None, dumps(error)
    shape = {"type": "error", "code": told.code, "message": told.sentence, "param": None}
    return "error", dumps(shape | {"sequence_number": sequence_number} | error)


def _error(dialect: Dialect, status: int, told: Told) -> dict[str, object]:
    message = f"{told.sentence} (reference {told.reference})"
    facts = {"reference": told.reference} | ({"ticket": told.ticket} if told.ticket else {})
    other = "invalid_request_error" if status < 500 else "api_error" if dialect == "anthropic" else "server_error"
    if dialect == "openai":
        kind = _OPENAI_TYPES.get(status, other)
        return {"error": {"message": message, "type": kind, "param": None, "code": told.code} | facts}
    details = {"error_code": told.code} | facts
    error = {"type": _ANTHROPIC_TYPES.get(status, other), "message": message, "details": details}
    return {"type": "error", "error": error, "request_id": told.reference}
