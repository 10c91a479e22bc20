"""Under which address a caller knows what it calls, and what it is told of it (RFC 9728)."""

import re
from collections.abc import Iterator, Mapping
from typing import Final
from urllib.parse import urlsplit

from mcp_sod.exchange import Request
from mcp_sod.policy.addresses import address, route, target
from mcp_sod.policy.issuers import Issuer
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.upstreams import Upstream

WELL_KNOWN: Final = "/.well-known/oauth-protected-resource"
_HOST = re.compile(r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?")
_PORTS = {"http": 80, "https": 443}


def proof_addresses(request: Request, policy: Policy) -> frozenset[str]:
    """Return the addresses of which a proof of possession may speak (RFC 9449, `htu`), in the form of `route`.

    In reverse mode they are the public ones of the policy: the Host header is whatever the sender writes.
    """
    bare = request.url.partition("?")[0]
    if request.forward:
        return frozenset({bare})
    return frozenset(route(f"{origin}{_path(request)}") for origin in _public(request, policy))


def sent_here(request: Request, policy: Policy) -> bool:
    """Say whether a request in reverse mode was sent to a public address, where the policy lists these."""
    return not policy.gateway.public or any(True for _ in _public(request, policy))


def metadata_address(request: Request, policy: Policy) -> str | None:
    """Return where the metadata of what the request calls are, as the caller can reach them; None if unknown."""
    origin, path = _origin(request, policy), _path(request)
    return None if origin is None else f"{origin}{WELL_KNOWN}{'' if path == '/' else path}"


def metadata(request: Request, policy: Policy) -> dict[str, object] | None:
    """Return the metadata that a request asks for (RFC 9728, sections 2 and 3), or None if it asks for none."""
    path = _path(request)
    if request.method != "GET" or not (path == WELL_KNOWN or path.startswith(f"{WELL_KNOWN}/")):
        return None
    issuers, asked = policy.document.identity, path.removeprefix(WELL_KNOWN)
    origin, found = _origin(request, policy), _upstream(request, policy, asked)
    if origin is None or found is None or not issuers:
        return None
    return {"resource": f"{origin}{asked or found}", **_facts(issuers, policy.gateway.name)}


def _facts(issuers: list[Issuer], name: str) -> Mapping[str, object]:
    facts: dict[str, object] = {
        "authorization_servers": [issuer.issuer for issuer in issuers if issuer.issuer.startswith(("https:", "http:"))],
        "bearer_methods_supported": ["header"],
        "resource_name": name,
    }
    scopes = sorted({scope for issuer in issuers for scope in issuer.scopes})
    if scopes:
        facts["scopes_supported"] = scopes
    if all(issuer.proof == "dpop" for issuer in issuers):
        facts["dpop_bound_access_tokens_required"] = True
    if all(issuer.proof == "mtls" for issuer in issuers):
        facts["tls_client_certificate_bound_access_tokens"] = True
    return facts


def _upstream(request: Request, policy: Policy, asked: str) -> str | None:
    """Return the path of the upstream that is asked about; the bare address asks about the only one at the host."""
    there = [known for known in policy.document.upstreams.values() if address(known.url) == address(request.url)]
    paths = [urlsplit(known.url).path or "/" for known in there if not asked or _covers(known, asked)]
    return paths[0] if len(paths) == 1 else None


def _covers(upstream: Upstream, path: str) -> bool:
    base = urlsplit(upstream.url).path or "/"
    below = upstream.speaks in ("openai", "anthropic") or (upstream.speaks == "http" and base.endswith("/"))
    return path == base or (below and path.startswith(f"{base.rstrip('/')}/"))


def _origin(request: Request, policy: Policy) -> str | None:
    """Return `scheme://host[:port]` as the caller would write it."""
    if request.forward:
        parts = urlsplit(request.url)
        return f"{parts.scheme}://{_shown(parts.scheme, *address(request.url))}"
    if policy.gateway.public:
        return next(_public(request, policy), None)
    host = _host(request)
    return f"{'https' if request.secure else 'http'}://{host}" if _HOST.fullmatch(host) else None


def _public(request: Request, policy: Policy) -> Iterator[str]:
    """Yield the public origin that the request was sent to."""
    for origin in policy.gateway.public:
        scheme = urlsplit(origin).scheme
        host = _host(request)
        if _HOST.fullmatch(host) and _same_host(f"{scheme}://{host}", origin):
            yield origin


def _same_host(one: str, other: str) -> bool:
    try:
        return address(one) == address(other)
    except ValueError:
        return False


def _path(request: Request) -> str:
    return target(request.url).partition("?")[0]


def _host(request: Request) -> str:
    return next(iter((*request.header("host"), request.authority)), "")


def _shown(scheme: str, host: str, port: int) -> str:
    host = f"[{host}]" if ":" in host else host
    return host if port == _PORTS[scheme] else f"{host}:{port}"
