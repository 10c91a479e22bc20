"""What a request must be before anyone asks who sent it: for a listed upstream, and understood in one way."""

import functools
from urllib.parse import urlsplit

from mcp_sod.errors import Malformed, Misdirected, Unlisted, Unsupported, Withheld, WrongMethod
from mcp_sod.exchange import ReplyKind, Request
from mcp_sod.policy.addresses import address, route
from mcp_sod.policy.model import Upstream
from mcp_sod.policy.policy import Policy
from mcp_sod.wire.mcp import Call, read_call

_KINDS: dict[str, ReplyKind] = {"application/json": "json", "text/event-stream": "events", "": "empty"}
# A header that is not known could carry text past the masks.
KEPT_REPLY_HEADERS = frozenset({
    b"allow", b"cache-control", b"content-length", b"content-type", b"date", b"mcp-protocol-version",
    b"mcp-session-id", b"retry-after",
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
    return name, upstream, read_call(_inspected_headers(request), request.body, limits.depth)


def reply_kind(status: int, fields: list[tuple[bytes, bytes]]) -> ReplyKind:
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
    return _kind(kinds[0] if kinds else b"")


@functools.lru_cache(maxsize=64)
def _kind(content_type: bytes) -> ReplyKind:
    media, _, parameters = content_type.decode("latin-1").lower().partition(";")
    if parameters.strip().replace('"', "") not in ("", "charset=utf-8"):
        return "other"
    return _KINDS.get(media.strip(), "other")


@functools.lru_cache(maxsize=4)
def routes(policy: Policy) -> dict[str, str]:
    """Return the names of the upstreams by their one URL, as `scheme://host:port/path`."""
    return {route(upstream.url): name for name, upstream in policy.document.upstreams.items()}


@functools.lru_cache(maxsize=4)
def addresses(policy: Policy) -> frozenset[tuple[str, int]]:
    """Return host and port of every upstream."""
    return frozenset(address(upstream.url) for upstream in policy.document.upstreams.values())


def _upstream(request: Request, policy: Policy) -> tuple[str, Upstream]:
    name = routes(policy).get(request.url)
    if name is None:
        raise Unlisted("This is not an upstream of this gateway.", hint="See upstreams: in the policy.")
    if request.forward:  # in reverse mode the destination is the upstream, whatever the request calls it
        for said in (*request.header("host"), *filter(None, [request.authority])):
            if _authority(said, request.url) != address(request.url):
                raise Misdirected("The Host header, the request's target and the tunnel name different destinations.")
    return name, policy.document.upstreams[name]


def _authority(host: str, url: str) -> tuple[str, int] | None:
    whole = f"{urlsplit(url).scheme}://{host}"
    try:
        return address(whole) if "@" not in host and urlsplit(whole).netloc == host else None
    except ValueError:
        return None


def _plain_headers(request: Request) -> None:
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
    if not _is_json(once.get("content-type", "")):
        raise Unsupported("MCP messages are sent as Content-Type: application/json.")


_REFUSED_HEADERS = frozenset({"upgrade", "trailer", "x-http-method-override"})
_SINGLE_HEADERS = frozenset({"host", "content-type", "content-encoding", "content-length", "transfer-encoding"})


@functools.lru_cache(maxsize=64)
def _is_json(content_type: str) -> bool:
    media, _, parameters = content_type.partition(";")
    if media.strip().lower() != "application/json":
        return False
    return parameters.strip().lower().replace('"', "").replace(" ", "") in ("", "charset=utf-8")


def _inspected_headers(request: Request) -> dict[str, str]:
    return {name: value for name, value in request.headers if name.startswith("mcp-") or name == "host"}
