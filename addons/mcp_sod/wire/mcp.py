"""MCP messages: one POSTed body becomes one Call; refusals get the shape that the caller's era parses.

Sources: JSON-RPC 2.0; MCP 2025-11-25 (streamable HTTP) and 2026-07-28 (stateless; header validation).
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from mcp_sod.errors import Malformed, Mismatch, Refusal, Withheld
from mcp_sod.wire.splice import spans
from mcp_sod.wire.strict_json import Json, Path, Texts, canonical, dumps, parse, texts

STATELESS_SINCE: Final = "2026-07-28"
_VERSION_KEY: Final = "io.modelcontextprotocol/protocolVersion"
MAX_NAME: Final = 2048  # characters; a URI may be long
_NAMED_BY: Final = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
}
_READ_HERE: Final = frozenset({"name", "uri", "arguments", "_meta"})
_METHOD = re.compile(r"[A-Za-z0-9_$./-]{1,128}")
_CHECKED_HEADERS: Final = frozenset({"mcp-method", "mcp-name", "mcp-protocol-version"})  # they repeat the body
_OF_THE_CONNECTION: Final = frozenset({"host", "mcp-session-id"})  # inspected, but no part of what is approved
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PLAIN_TOKEN = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class Call:
    """One message from a client: a request (with an id) or a notification (without)."""

    message: dict[str, Json]
    method: str
    request_id: int | str | None
    name: str | None
    version: str | None
    header_texts: tuple[tuple[str, str], ...] = field(default=())

    @property
    def is_request(self) -> bool:
        """Whether the sender waits for an answer."""
        return self.request_id is not None

    @property
    def tool(self) -> str | None:
        """The tool's name, for a `tools/call`."""
        return self.name if self.method == "tools/call" else None

    @property
    def stateless(self) -> bool:
        """Whether it is of the stateless era (2026-07-28 and later; versions are dates, so they sort)."""
        return self.version is not None and self.version >= STATELESS_SINCE

    @property
    def header_params(self) -> dict[str, str]:
        """The texts of the `Mcp-Param-*` headers, which go upstream beside the message."""
        start = "mcp-param-"
        return {name.removeprefix(start): text for name, text in self.header_texts if name.startswith(start)}

    def texts(self) -> Texts:
        """Return every decoded string and key that goes upstream, with its path in the message."""
        # A number as id is no text of anyone's: clients count, or draw at random.
        found = texts({**self.message, "id": None} if isinstance(self.request_id, int) else self.message)
        found.leaves.extend((("header", name), text) for name, text in self.header_texts)
        return found

    def digest(self, upstream: str) -> str:
        """Return the hex SHA-256 that an approval is bound to: upstream, method and params, to the digit.

        Left out is only what a repeat of the same call changes by itself: the id, and in `_meta` a plain progress
        token and a well-formed W3C trace parent.
        """
        params = self.message.get("params")
        if isinstance(params, dict) and isinstance(meta := params.get("_meta"), dict):
            kept = {key: value for key, value in meta.items() if not _per_request(key, value)}
            params = {**params, "_meta": kept}
        headers: list[Json] = [[name, text] for name, text in self.header_texts if name not in _OF_THE_CONNECTION]
        form = canonical([upstream, self.method, params, headers])
        return hashlib.sha256(form).hexdigest()


def _per_request(key: str, value: Json) -> bool:
    if key == "progressToken":
        return _is_id(value) and (isinstance(value, int) or _PLAIN_TOKEN.fullmatch(str(value)) is not None)
    return key == "traceparent" and isinstance(value, str) and _TRACE_PARENT.fullmatch(value) is not None


def read_call(headers: Mapping[str, str], body: bytes, max_depth: int) -> Call:
    """Return the one call in a POSTed body.

    `headers`: Host and the `mcp-*` headers, names in lower case, each given once. Raises Malformed, or Mismatch when
    the headers say something else than the body.
    """
    message = parse(body, max_depth)
    if isinstance(message, list):
        raise Malformed("JSON-RPC batches are not accepted.", hint="Send one message a request.")
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Malformed("The body is not a JSON-RPC 2.0 message.")
    method, params = message.get("method"), message.get("params", {})
    if not isinstance(method, str) or not message.keys() <= {"jsonrpc", "id", "method", "params"}:
        raise Malformed("The body is not a JSON-RPC request or notification.")
    if not isinstance(params, dict):
        raise Malformed("The params of an MCP message are an object.")
    if any(key not in _READ_HERE and key.casefold() in _READ_HERE for key in params):
        # Some servers (Go's) read keys in any case, the last one winning: they would read another call than this.
        raise Malformed("A key of the params differs from one of MCP's in case alone.")
    if "id" in message and not _is_id(message["id"]):
        raise Malformed("The id must be a short string, or an integer that a double holds exactly.")
    if _METHOD.fullmatch(method) is None or (method not in _NAMED_BY and method.casefold() in _NAMED_BY):
        raise Malformed("The method is not written as MCP writes it.")
    name = _name(method, params)
    version = _agreed_version(headers, params)
    _headers_agree(headers, method, name)
    texts = tuple((key, _decoded(value)) for key, value in headers.items() if key not in _CHECKED_HEADERS)
    request_id = message.get("id")
    assert request_id is None or isinstance(request_id, int | str)
    return Call(message, method, request_id, name, version, texts)


def _is_id(value: Json) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= 256
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _name(method: str, params: dict[str, Json]) -> str | None:
    key = _NAMED_BY.get(method)
    if key is None:
        return None
    name = params.get(key)
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise Malformed(f"A {method} names its target in params.{key}, in at most {MAX_NAME} characters.")
    if method == "tools/call" and not isinstance(params.get("arguments", {}), dict):
        raise Malformed("The arguments of a tools/call are an object.")
    return name


def _agreed_version(headers: Mapping[str, str], params: dict[str, Json]) -> str | None:
    meta = params.get("_meta")
    in_body = meta.get(_VERSION_KEY) if isinstance(meta, dict) else None
    in_header = headers.get("mcp-protocol-version")
    if in_body is not None and in_body != in_header:
        raise Mismatch("The protocol version in the header and in the body differ.")
    return in_header


def _headers_agree(headers: Mapping[str, str], method: str, name: str | None) -> None:
    said = headers.get("mcp-method")
    if said is not None and said != method:
        raise Mismatch("The Mcp-Method header and the body name different methods.")
    said = headers.get("mcp-name")
    if said is not None and _decoded(said) != name:
        raise Mismatch("The Mcp-Name header and the body name different targets.")


def _decoded(value: str) -> str:
    """Return a header's text; `=?base64?…?=` is how 2026-07-28 carries what a header cannot."""
    if not (value.startswith("=?") and value.endswith("?=")):
        return value
    if not value.startswith("=?base64?"):
        raise Mismatch("A header value has an encoding that is not read here.")
    try:
        return base64.b64decode(value[9:-2], validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        raise Mismatch("A base64 header value does not decode.") from None


def refusal_body(call: Call | None, refusal: Refusal, reference: str, ticket: str | None) -> bytes:
    """Return the JSON that tells the caller of a refusal, in the shape that the call's sender parses."""
    facts = {"code": refusal.code, "reference": reference} | ({"ticket": ticket} if ticket else {})
    sentence = f"{refusal.for_caller} (reference {reference})"
    answer: dict[str, object] = {"jsonrpc": "2.0", "id": call.request_id if call else None}
    if refusal.in_band and call is not None and call.tool is not None:
        answer["result"] = {
            "content": [{"type": "text", "text": sentence}],
            "isError": True,
            "_meta": {f"mcp-sod/{key}": value for key, value in facts.items()},
        } | ({"resultType": "complete"} if call.stateless else {})
    else:
        answer["error"] = {"code": refusal.rpc_code, "message": sentence, "data": facts}
    return dumps(answer).encode()


def check_reply(message: Json, call: Call, *, streamed: bool) -> dict[str, Json]:
    """Return the message if it is an answer to the call, or, in a stream, something the server may say meanwhile.

    Raises Withheld for anything else: an answer to another's request would slip one person's result to another.
    """
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Withheld("The upstream's reply is not a JSON-RPC message.")
    keys = message.keys()
    if keys in ({"jsonrpc", "id", "result"}, {"jsonrpc", "id", "error"}):
        answered = message["id"]
        # To Python true is 1.
        if answered == call.request_id and type(answered) is type(call.request_id):
            return message
        if answered is None and "error" in keys:
            return message
        raise Withheld("The upstream's reply answers a different request.")
    if streamed and "method" in keys and keys <= {"jsonrpc", "id", "method", "params"}:
        return message
    raise Withheld("The upstream's reply is not a JSON-RPC answer.")


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
