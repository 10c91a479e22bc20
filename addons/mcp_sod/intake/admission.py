"""What a request must be before anyone asks who sent it: for a listed upstream, and understood in one way."""

import functools
from collections.abc import Mapping
from urllib.parse import urlsplit

from mcp_sod.errors import Malformed, Misdirected, Unlisted, Unsupported, Withheld, WrongMethod
from mcp_sod.exchange import ReplyKind, Request
from mcp_sod.policy.model import Upstream
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.mcp import Call, read_call

_KINDS: dict[str, ReplyKind] = {"application/json": "json", "text/event-stream": "events", "": "empty"}
_PORTS = {"http": 80, "https": 443}
_KEPT_REPLY_HEADERS = frozenset({
    "allow", "cache-control", "content-length", "content-type", "date", "mcp-protocol-version", "mcp-session-id",
    "retry-after",
})  # fmt: skip


def admit(request: Request, policy: Policy) -> tuple[str, Upstream, Call]:
    """Return the upstream's name, the upstream and the call; raises a Refusal for anything else."""
    name, upstream = _upstream(request, policy)
    if request.method != "POST":
        raise WrongMethod("An MCP upstream is spoken to with POST.", hint="GET streams are not offered here.")
    _plain_headers(request)
    limits = policy.gateway.limits
    if len(request.body) > limits.body:
        raise Malformed(f"The message is larger than {limits.body} bytes.")
    return name, upstream, read_call(_mcp_headers(request), request.body, limits.depth)


def reply_kind(status: int, headers: Mapping[str, str]) -> ReplyKind:
    """Return what the reply claims to be: json, events, empty or other; raises Withheld for what is not read here.

    `headers`: names in lower case, repeated ones joined by a comma.
    """
    if status < 200:
        raise Withheld("The upstream wanted to switch protocols.")
    if headers.get("content-encoding", "identity").strip().lower() != "identity":
        raise Withheld("The upstream compressed its reply although it was asked not to.")
    media, _, parameters = headers.get("content-type", "").partition(";")
    if parameters.strip().lower().replace('"', "") not in ("", "charset=utf-8"):
        return "other"
    return _KINDS.get(media.strip().lower(), "other")


def kept_reply_header(name: str) -> bool:
    """Say whether a reply's header is delivered: one that is not known could carry text past the masks."""
    return name.lower() in _KEPT_REPLY_HEADERS


@functools.lru_cache(maxsize=4)
def routes(policy: Policy) -> dict[str, str]:
    """Return the names of the upstreams by their one URL, as `scheme://host:port/path`."""
    return {_route(upstream.url): name for name, upstream in policy.document.upstreams.items()}


@functools.lru_cache(maxsize=4)
def addresses(policy: Policy) -> frozenset[tuple[str, int]]:
    """Return host and port of every upstream."""
    return frozenset(_address(upstream.url) for upstream in policy.document.upstreams.values())


def _route(url: str) -> str:
    parts = urlsplit(url)
    host, port = _address(url)
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{host}:{port}{parts.path or '/'}{query}"


def _address(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return (parts.hostname or "").lower(), parts.port or _PORTS[parts.scheme]


def _upstream(request: Request, policy: Policy) -> tuple[str, Upstream]:
    name = routes(policy).get(request.url)
    if name is None:
        raise Unlisted("This is not an upstream of this gateway.", hint="See upstreams: in the policy.")
    if request.forward:
        for host in request.header("host"):
            if _authority(host, request.url) != _address(request.url):
                raise Misdirected("The Host header and the request's destination differ.")
    return name, policy.document.upstreams[name]


def _authority(host: str, url: str) -> tuple[str, int] | None:
    try:
        return _address(f"{urlsplit(url).scheme}://{host}")
    except ValueError:
        return None


def _plain_headers(request: Request) -> None:
    for name, value in request.headers:
        if not value.isprintable() or not value.isascii():
            raise Malformed("A header holds characters that are read in more than one way.")
        if name in ("upgrade", "trailer", "x-http-method-override"):
            raise Malformed(f"The header {name} is not accepted here.")
    if len(request.header("host")) > 1:
        raise Malformed("There is more than one Host header.")
    if [value.strip().lower() for value in request.header("content-encoding")] not in ([], ["identity"]):
        raise Unsupported("Only Content-Encoding: identity is read here.", hint="Send the body uncompressed.")
    kinds = request.header("content-type")
    if len(kinds) != 1 or not _is_json(kinds[0]):
        raise Unsupported("MCP messages are sent as Content-Type: application/json.")


def _is_json(content_type: str) -> bool:
    media, _, parameters = content_type.partition(";")
    if media.strip().lower() != "application/json":
        return False
    return parameters.strip().lower().replace('"', "").replace(" ", "") in ("", "charset=utf-8")


def _mcp_headers(request: Request) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in request.headers:
        if name.startswith("mcp-"):
            if name in found:
                raise Malformed("An Mcp header is given twice.")
            found[name] = value
    return found
