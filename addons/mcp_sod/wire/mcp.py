"""What MCP clients send: one HTTP request becomes one Call.

Sources: JSON-RPC 2.0; MCP 2024-11-05 (HTTP with SSE), 2025-11-25 (streamable HTTP), 2026-07-28 (stateless; header
validation).
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from mcp_sod.errors import Malformed, Mismatch
from mcp_sod.wire.headers import PARAM, STATELESS_SINCE, agreed_version, header_texts, names_agree, params_agree
from mcp_sod.wire.strict_json import Json, Path, Texts, canonical, parse, texts

MAX_NAME: Final = 2048  # characters; a URI may be long
_NAMED_BY: Final = {
    "tools/call": "name",
    "prompts/get": "name",
    "resources/read": "uri",
    "resources/subscribe": "uri",
    "resources/unsubscribe": "uri",
    "tasks/get": "taskId",
    "tasks/update": "taskId",
    "tasks/cancel": "taskId",
}
# Methods of which more than their permission hangs on how they are written.
_AS_WRITTEN: Final = frozenset(
    {*_NAMED_BY, "initialize", "subscriptions/listen", "tasks/list", "tasks/result", "tools/list"}
)
_NAMING: Final = frozenset({"mcp-method", "mcp-name"})
_NAMED_NOW: Final = frozenset({"tools/call", "prompts/get", "resources/read"})
_READ_HERE: Final = frozenset({"name", "uri", "arguments", "_meta", "requestState", "taskId"})
_FOLDED: Final = frozenset(key.casefold() for key in _READ_HERE)
_METHOD = re.compile(r"[A-Za-z0-9_$./-]{1,128}")
# Inspected, but no part of what is approved.
_OF_THE_CONNECTION: Final = frozenset({"host", "origin", "mcp-session-id", "last-event-id"})
_TRACE_PARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
# What clients number their requests by; a text of another form is part of what is approved.
_COUNTED = re.compile(r"(?:[A-Za-z]{1,12}[-_:]?)?\d{1,16}|[0-9a-fA-F]{8}(?:-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
# Places of texts that no approval covers.
UNCOVERED: Final[frozenset[Path]] = frozenset({
    ("id",), ("params", "_meta", "progressToken"), ("params", "_meta", "traceparent"),
    *(("header", name) for name in _OF_THE_CONNECTION),
})  # fmt: skip

type Kind = Literal["request", "notification", "response", "stream", "close"]


@dataclass(frozen=True, slots=True)
class Call:
    """One message from a client.

    `kind`: a request (waits for an answer), a notification, a response (to a request of the server's, whose method it
    has once that is known), a stream (`GET`) or the close of a session (`DELETE`).
    """

    message: dict[str, Json]
    method: str
    request_id: int | str | None
    name: str | None
    version: str | None
    header_texts: tuple[tuple[str, str], ...] = field(default=())
    kind: Kind = "request"
    written: str | None = None  # the message as JSON text, where that is not the request's body
    envelope: bool = False  # JSON-RPC's, whose id says nothing

    @property
    def is_request(self) -> bool:
        """Whether the sender waits for an answer."""
        return self.kind == "request"

    def header(self, name: str) -> str | None:
        """Return the text of one of the inspected headers."""
        return next((text for known, text in self.header_texts if known == name), None)

    @property
    def tool(self) -> str | None:
        """The tool's name, for a `tools/call`."""
        return self.name if self.method == "tools/call" else None

    @property
    def stateless(self) -> bool:
        """Whether it is of the stateless era (2026-07-28 and later; versions are dates, so they sort)."""
        return self.version is not None and self.version >= STATELESS_SINCE

    def texts(self) -> Texts:
        """Return every decoded string and key that goes upstream, with its path in the message."""
        # A number as id is no text of anyone's: clients count, or draw at random.
        counted = self.envelope and isinstance(self.request_id, int)
        found = texts({**self.message, "id": None} if counted else self.message)
        for name, text in self.header_texts:
            found.leaves.append((("header", name), text))
            if name.startswith(PARAM):
                found.leaves.append((("header", name), name))
        return found

    def digest(self, upstream: str) -> str:
        """Return the hex SHA-256 that an approval is bound to: upstream, method and all that is said, to the digit.

        Left out is only what a repeat of the same call changes by itself: a plain id, and in `_meta` a plain progress
        token and a well-formed W3C trace parent.
        """
        said = dict(self.message)
        params = said.get("params")
        if self.envelope:
            del said["jsonrpc"]
            if _is_counted(said.get("id")):
                del said["id"]
        if self.envelope and isinstance(params, dict) and isinstance(meta := params.get("_meta"), dict):
            kept = {key: value for key, value in meta.items() if not _per_request(key, value)}
            said["params"] = {**params, "_meta": kept}
        headers: list[Json] = [[name, text] for name, text in self.header_texts if name not in _OF_THE_CONNECTION]
        form = canonical([upstream, self.method, said, headers])
        return hashlib.sha256(form).hexdigest()


def _per_request(key: str, value: Json) -> bool:
    if key == "progressToken":
        return _is_counted(value)
    return key == "traceparent" and isinstance(value, str) and _TRACE_PARENT.fullmatch(value) is not None


def read_call(headers: Mapping[str, str], body: bytes, max_depth: int) -> Call:
    """Return the one call in a POSTed body.

    `headers`: the inspected ones (Host, Origin, `mcp-*`), names in lower case, each given once. Raises Malformed, or
    Mismatch when the headers say something else than the body.
    """
    message = parse(body, max_depth)
    if isinstance(message, list):
        raise Malformed("JSON-RPC batches are not accepted.", hint="Send one message a request.")
    if not isinstance(message, dict) or message.get("jsonrpc") != "2.0":
        raise Malformed("The body is not a JSON-RPC 2.0 message.")
    try:
        return _response(headers, message) if "method" not in message else _asked(headers, message)
    except Malformed as refusal:
        request_id = message.get("id")
        refusal.request_id = request_id if isinstance(request_id, int | str) and _is_id(request_id) else None
        raise


def _asked(headers: Mapping[str, str], message: dict[str, Json]) -> Call:
    """Return the client's request or notification."""
    method, params = message.get("method"), message.get("params", {})
    if not isinstance(method, str) or not message.keys() <= {"jsonrpc", "id", "method", "params"}:
        raise Malformed("The body is not a JSON-RPC request or notification.")
    if not isinstance(params, dict):
        raise Malformed("The params of an MCP message are an object.")
    if any(key not in _READ_HERE and key.casefold() in _FOLDED for key in params):
        # Some servers (Go's) read keys in any case, the last one winning: they would read another call than this.
        raise Malformed("A key of the params differs from one of MCP's in case alone.")
    if "id" in message and not _is_id(message["id"]):
        raise Malformed("The id must be a short string, or an integer that a double holds exactly.")
    if _METHOD.fullmatch(method) is None or (method not in _AS_WRITTEN and method.casefold() in _AS_WRITTEN):
        raise Malformed("The method is not written as MCP writes it.")
    version = agreed_version(headers, params)
    name = _name(method, params, version)
    names_agree(headers, method, name)
    said = header_texts(headers)
    params_agree(said, params.get("arguments", {}))
    request_id = message.get("id")
    assert request_id is None or isinstance(request_id, int | str)
    if request_id is None and not method.startswith("notifications/"):
        raise Malformed("A request has an id; only notifications have none.")
    kind: Kind = "notification" if request_id is None else "request"
    return Call(message, method, request_id, name, version, said, kind, envelope=True)


def read_bodyless(headers: Mapping[str, str], verb: str, body: bytes) -> Call:
    """Return the call that a GET (a stream of what the server has to say) or a DELETE (the session's end) is."""
    if body:
        raise Malformed(f"A {verb} has no body.")
    if any(name in _NAMING or name.startswith(PARAM) for name in headers):
        raise Mismatch(f"A {verb} carries no message that a header could name.")
    kind: Kind = "stream" if verb == "GET" else "close"
    return Call({}, verb, None, None, headers.get("mcp-protocol-version"), header_texts(headers), kind)


def _response(headers: Mapping[str, str], message: dict[str, Json]) -> Call:
    """Return the client's answer to a request of the server's."""
    answers = message.keys() == {"jsonrpc", "id", "result"} or message.keys() == {"jsonrpc", "id", "error"}
    outcome = message.get("result", message.get("error"))
    if not (answers and _is_id(message["id"]) and isinstance(outcome, dict)):
        raise Malformed("The body is not a JSON-RPC request, notification or response.")
    if any(name in _NAMING or name.startswith(PARAM) for name in headers):
        raise Mismatch("The headers name a method or an argument, and the body is a response.")
    request_id = message["id"]
    assert isinstance(request_id, int | str)
    version = headers.get("mcp-protocol-version")
    return Call(message, "response", request_id, None, version, header_texts(headers), "response", envelope=True)


def _is_counted(value: Json) -> bool:
    return _is_id(value) and (isinstance(value, int) or _COUNTED.fullmatch(str(value)) is not None)


def _is_id(value: Json) -> bool:
    if isinstance(value, str):
        return 0 < len(value) <= 256
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53


def _name(method: str, params: dict[str, Json], version: str | None) -> str | None:
    key = _NAMED_BY.get(method)
    if key is None:
        return None
    name = params.get(key)
    if name is None and version is not None and version >= STATELESS_SINCE and method not in _NAMED_NOW:
        return None  # removed, or the server's to refuse
    if not isinstance(name, str) or not 0 < len(name) <= MAX_NAME:
        raise Malformed(f"A {method} names its target in params.{key}, in at most {MAX_NAME} characters.")
    if method == "tools/call" and not isinstance(params.get("arguments", {}), dict):
        raise Malformed("The arguments of a tools/call are an object.")
    return name
