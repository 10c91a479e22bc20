"""What a request must be before anyone asks who sent it: for a listed upstream, and understood in one way."""

import functools
import re
from dataclasses import replace

from mcp_sod.errors import Malformed, Unsupported, Withheld, WrongMethod
from mcp_sod.exchange import ReplyKind, Request
from mcp_sod.intake.routing import Route, find
from mcp_sod.policy.addresses import target
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.upstreams import Speaks
from mcp_sod.wire.mcp import Call, read_bodyless, read_call
from mcp_sod.wire.models import read_model_call
from mcp_sod.wire.plain import read_plain

_KINDS: dict[str, ReplyKind] = {"application/json": "json", "text/event-stream": "events", "": "empty"}
# A header that is not known could carry text past the masks.
_KEPT_REPLY_HEADERS = frozenset({
    b"allow", b"cache-control", b"content-length", b"content-type", b"date", b"etag", b"last-modified",
    b"mcp-protocol-version", b"mcp-session-id", b"request-id", b"retry-after", b"x-request-id",
})  # fmt: skip


def admit(request: Request, policy: Policy) -> tuple[Route, Call]:
    """Return where the request goes and the call that it is; raises a Refusal for anything else."""
    if request.version != ("HTTP/2.0" if request.http2 else "HTTP/1.1"):
        raise Malformed("Only HTTP/1.1 and HTTP/2 are spoken here.")
    route = find(request, policy)
    _allowed_verb(request.method, route)
    _plain_headers(request, route.upstream.speaks)
    limits = policy.gateway.limits
    if len(request.body) > limits.body:
        raise Malformed(f"The message is larger than {limits.body} bytes.")
    return route, _call(request, route, limits.depth)


def _call(request: Request, route: Route, depth: int) -> Call:
    speaks = route.upstream.speaks
    match speaks:
        case "mcp" | "mcp-sse" if request.method == "POST":
            return read_call(_inspected_headers(request), request.body, depth)
        case "mcp" | "mcp-sse":
            return read_bodyless(_inspected_headers(request), request.method, request.body)
        case "http":
            kind = next(iter(request.header("content-type")), "")
            call = read_plain(request.method, request.url, kind, request.body, depth)
            return replace(call, header_texts=(*call.header_texts, *_texts(request, _OF_HTTP)))
        case _:
            call = read_model_call(speaks, route.endpoint, request.body, depth)
            return replace(call, header_texts=(("target", target(request.url)), *_texts(request, _OF_MODELS)))


def reply_kind(speaks: Speaks, status: int, fields: list[tuple[bytes, bytes]]) -> ReplyKind:
    """Return what the reply claims to be; raises Withheld for what is not read here.

    `fields`: its headers, names in lower case.
    """
    if not 200 <= status <= 599:
        raise Withheld("The upstream answered with a status that MCP does not use.")
    if any(value.strip().lower() != b"identity" for name, value in fields if name == b"content-encoding"):
        raise Withheld("The upstream compressed its reply although it was asked not to.")
    kinds = [value for name, value in fields if name == b"content-type"]
    if len(kinds) > 1:
        return "other"
    kind = _kind(kinds[0] if kinds else b"")
    return "other" if kind == "text" and speaks != "http" else kind


def kept_reply_header(name: bytes, value: bytes) -> bool:
    """Say whether a reply's header goes on; what lets shared caches keep one principal's reply for others does not."""
    shared = name == b"cache-control" and re.search(rb"(?i)no-store|no-cache|private", value) is None
    return name in _KEPT_REPLY_HEADERS and not shared


@functools.lru_cache(maxsize=64)
def _kind(content_type: bytes) -> ReplyKind:
    media, _, parameters = content_type.decode("latin-1").lower().partition(";")
    if parameters.strip().replace('"', "") not in ("", "charset=utf-8"):
        return "other"
    if _TEXT.fullmatch(media.strip()) and media.strip() not in _KINDS:
        return "text"
    return _KINDS.get(media.strip(), "other")


_TEXT = re.compile(r"text/[a-z0-9.+-]{1,40}")
_VERBS: dict[Speaks, frozenset[str]] = {
    "mcp": frozenset({"POST", "GET", "DELETE"}),
    "mcp-sse": frozenset({"GET"}),
    "openai": frozenset({"POST"}),
    "anthropic": frozenset({"POST"}),
    "http": frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}),
}


def _allowed_verb(verb: str, route: Route) -> None:
    known = frozenset({"POST"}) if route.given else _VERBS[route.upstream.speaks]
    if verb not in known:
        raise WrongMethod(f"This upstream is spoken to with {', '.join(sorted(known))}.")


def _plain_headers(request: Request, speaks: Speaks) -> None:
    once: dict[str, str] = {}
    for name, value in request.headers:
        if not (value.isascii() and value.isprintable()):
            raise Malformed("A header holds characters that are read in more than one way.")
        if name in _REFUSED_HEADERS:
            raise Malformed(f"The header {name} is not accepted here.")
        if name in once and (name in _SINGLE_HEADERS or name.startswith("mcp-")):
            raise Malformed(f"The header {name} is given twice.")
        once[name] = value
    if once.get("content-encoding", "identity").strip().lower() != "identity":
        raise Unsupported("Only Content-Encoding: identity is read here.", hint="Send the body uncompressed.")
    if once.get("transfer-encoding", "chunked").strip().lower() != "chunked":
        raise Unsupported("Only Transfer-Encoding: chunked is read here.")
    if (request.body or request.method == "POST") and speaks != "http" and not _is_json(once.get("content-type", "")):
        raise Unsupported("Messages are sent here as Content-Type: application/json.")


_REFUSED_HEADERS = frozenset({"upgrade", "trailer", "x-http-method-override"})
_SINGLE_HEADERS = frozenset({
    "host", "origin", "last-event-id", "content-type", "content-encoding", "content-length", "transfer-encoding",
})  # fmt: skip


@functools.lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    media, _, parameters = content_type.partition(";")
    if media.strip().lower() != "application/json":
        return False
    return parameters.strip().lower().replace('"', "").replace(" ", "") in ("", "charset=utf-8")


def _texts(request: Request, names: frozenset[str]) -> tuple[tuple[str, str], ...]:
    """Return the headers that go upstream beside the body, to be inspected and approved with it."""
    return tuple((name, value) for name, value in request.headers if name in names)


_OF_HTTP = frozenset({"idempotency-key", "if-match", "if-none-match"})
_OF_MODELS = frozenset({"anthropic-beta", "anthropic-version"})


def _inspected_headers(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.headers if name in _INSPECTED or name.startswith("mcp-")}


_INSPECTED = frozenset({"host", "origin", "last-event-id"})
