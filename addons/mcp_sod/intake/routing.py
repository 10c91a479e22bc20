"""Which upstream a request is for: one that the policy lists, at the address it lists, under one name."""

import functools
import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from mcp_sod.errors import Malformed, Misdirected, Unlisted
from mcp_sod.exchange import Request
from mcp_sod.policy.addresses import address, route, target
from mcp_sod.policy.patterns import plain_form
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.upstreams import Upstream
from mcp_sod.resource import sent_here
from mcp_sod.wire.models import ENDPOINTS
from mcp_sod.wire.ownership import untagged

_SEGMENT = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,=:@-]|%[0-9A-Fa-f]{2})*")


@dataclass(frozen=True, slots=True)
class Route:
    """An upstream, and which part of it: a model API's endpoint, or an endpoint that an MCP server gave out."""

    name: str
    upstream: Upstream
    endpoint: str = ""
    given: bool = False


def find(request: Request, policy: Policy) -> Route:
    """Return where the request goes; raises Unlisted or Misdirected."""
    found = routes(policy).get(request.url) or _given(request.url, policy) or _below(request.url, policy)
    if found is None:
        raise _unlisted(request.url, policy)
    hosts = request.header("host")
    if len(hosts) != 1 and not (request.http2 and not hosts and request.authority):
        raise Malformed("A request has one Host header (RFC 9112, section 3.2).")
    if not request.forward and not sent_here(request, policy):
        raise Misdirected("The Host header names no address of this gateway.", operator="See gateway.public.")
    if request.forward:  # in reverse mode the destination is the upstream, whatever the request calls it
        for said in (*hosts, *filter(None, [request.authority])):
            if _authority(said, request.url) != address(request.url):
                raise Misdirected("The Host header, the request's target and the tunnel name different destinations.")
        asked_for = request.server_name if request.url.startswith("https:") else None
        if asked_for is not None and asked_for.lower() != address(request.url)[0]:
            raise Misdirected("The client's TLS asked for another host than the request's target.")
    return found


def _unlisted(url: str, policy: Policy) -> Unlisted:
    """Return the refusal: whoever is at the right host is told that the path is wrong; the record has host and port."""
    known = policy.document.upstreams.items()
    asked = next((place for place in addresses(policy) if url.startswith(_origins(place))), None)
    if asked is None:
        return Unlisted("This is not an upstream of this gateway.", hint="See upstreams: in the policy.")
    there = ", ".join(name for name, upstream in known if address(upstream.url) == asked)
    return Unlisted(
        "This gateway knows the host, but not this path: it differs from the upstream's URL, to the last slash.",
        hint="Of a model API only its endpoints are read here.",
        operator=f"At this host and port: {there}.",
    )


def _origins(place: tuple[str, int]) -> tuple[str, str]:
    host, port = f"[{place[0]}]" if ":" in place[0] else place[0], place[1]
    return f"http://{host}:{port}/", f"https://{host}:{port}/"


@functools.lru_cache(maxsize=4)
def routes(policy: Policy) -> dict[str, Route]:
    """Return the routes that have one URL each, by it, as `scheme://host:port/path`."""
    found: dict[str, Route] = {}
    for name, upstream in policy.document.upstreams.items():
        if upstream.speaks in ("mcp", "mcp-sse"):
            found[route(upstream.url)] = Route(name, upstream)
        for endpoint in ENDPOINTS.get(upstream.speaks, ()):
            url = f"{route(upstream.url).rstrip('/')}/{endpoint}"
            found[url] = found[f"{url}?beta=true"] = Route(name, upstream, endpoint)
    return found


@functools.lru_cache(maxsize=4)
def addresses(policy: Policy) -> frozenset[tuple[str, int]]:
    """Return host and port of every upstream."""
    return frozenset(address(upstream.url) for upstream in policy.document.upstreams.values())


@functools.lru_cache(maxsize=4)
def _others(policy: Policy) -> tuple[tuple[str, Route], ...]:
    """Return URL and route of the upstreams that have more addresses than can be listed, the longest URL first."""
    found = [
        (route(upstream.url), Route(name, upstream))
        for name, upstream in policy.document.upstreams.items()
        if upstream.speaks in ("http", "mcp-sse")
    ]
    return tuple(sorted(found, key=lambda item: -len(item[0])))


def _below(url: str, policy: Policy) -> Route | None:
    """Return the route of an HTTP service: its very URL, or all below it where that ends with a slash."""
    path, _, _ = url.partition("?")
    for base, found in _others(policy):
        if found.upstream.speaks == "http" and (path == base or (base.endswith("/") and path.startswith(base))):
            return found if _plain(target(path)) else None
    return None


def _plain(path: str) -> bool:
    """Say whether a path can be read in one way only: no dots to climb by, no slashes in disguise."""
    *above, last = path.split("/")[1:]
    return all(map(_plain_segment, above)) and (last == "" or _plain_segment(last))


def _plain_segment(segment: str) -> bool:
    try:
        said = unquote(segment, errors="strict")
    except UnicodeDecodeError:
        return False
    plain = plain_form(said)  # as a lenient server may read it
    return (
        _SEGMENT.fullmatch(segment) is not None
        and said.isprintable()
        and plain == plain.strip() != ""
        and not plain.startswith(".")
        and not plain.endswith(".")
        and not set(plain) & set("/\\%;")
    )


def _given(url: str, policy: Policy) -> Route | None:
    """Return the route of an endpoint with one of this gateway's tags; whether it is the caller's is seen later."""
    if untagged(url) is not None:
        for base, found in _others(policy):
            if found.upstream.speaks == "mcp-sse" and _origin(url) == _origin(base):
                return Route(found.name, found.upstream, given=True)
    return None


def _origin(url: str) -> str:
    return url.removesuffix(target(url))


def _authority(host: str, url: str) -> tuple[str, int] | None:
    whole = f"{urlsplit(url).scheme}://{host}"
    try:
        return address(whole) if "@" not in host and urlsplit(whole).netloc == host else None
    except ValueError:
        return None
