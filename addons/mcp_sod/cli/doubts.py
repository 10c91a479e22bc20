"""What a policy may say, but can hardly mean."""

import datetime as dt
import difflib
import os
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from mcp_sod.identity.saml import certificates
from mcp_sod.policy.model import Document
from mcp_sod.policy.patterns import globs
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.secrets import Secret

_USUAL = {"mcp": "/mcp", "mcp-sse": "/sse", "openai": "/v1", "anthropic": "/v1"}
_METHODS = (  # of every revision of MCP from 2024-11-05 to 2026-07-28 that clients send
    "completion/complete", "initialize", "logging/setLevel", "notifications/cancelled", "notifications/initialized",
    "notifications/progress", "notifications/roots/list_changed", "ping", "prompts/get", "prompts/list",
    "resources/list", "resources/read", "resources/subscribe", "resources/templates/list", "resources/unsubscribe",
    "server/discover", "subscriptions/listen", "tasks/cancel", "tasks/get", "tasks/list", "tasks/result",
    "tasks/update", "tools/call", "tools/list",
)  # fmt: skip
_BRIEF = 86400  # seconds for which remembering who did what is hardly long enough


def doubts(policy: Policy) -> Iterator[str]:
    """Yield a sentence for each thing that is allowed, but can hardly be meant, or is not there yet."""
    yield from _of_upstreams(policy)
    yield from _of_issuers(policy)
    yield from _of_methods(policy.document)
    for name, saml in policy.document.saml.items():
        ends = max(found.not_valid_after_utc for found in certificates((policy.base / saml.certificate).read_bytes()))
        if ends <= dt.datetime.now(dt.UTC):
            yield f"saml.{name}: its certificate {saml.certificate} expired on {ends:%Y-%m-%d}."
    for index, rule in enumerate(policy.document.separation.by_object):
        if rule.keep < _BRIEF:
            yield f"separation.by_object.{index}: who did what is forgotten after {rule.keep:.0f} seconds (keep)."


def _of_upstreams(policy: Policy) -> Iterator[str]:
    document = policy.document
    permitted = {permission.upstream for role in document.permissions.values() for permission in role}
    for name, upstream in document.upstreams.items():
        if name not in permitted:
            yield f"upstreams.{name}: no role may call it; see permissions: in roles.yaml."
        if not urlsplit(upstream.url).path.strip("/") and upstream.speaks != "http":
            yield f"upstreams.{name}: its url has no path, so only / is meant ({_USUAL[upstream.speaks]} is usual)."
        lacking = None if upstream.credential is None else _lacking(policy.base, upstream.credential.secret)
        if lacking is not None:
            yield f"upstreams.{name}: {lacking} of its credential is not set here."


def _of_issuers(policy: Policy) -> Iterator[str]:
    known = {group for role in policy.document.roles.values() for group in role.groups}
    for index, issuer in enumerate(policy.document.identity):
        here = f"identity.{index} ({issuer.issuer})"
        lacking = None if issuer.introspection is None else _lacking(policy.base, issuer.introspection.secret)
        if lacking is not None:
            yield f"{here}: {lacking} of its introspection is not set here."
        for group in sorted({group for grant in issuer.grants for group in grant.groups} - known):
            yield f"{here}: grants the group {group}, which is in no role.{_meant(group, known)}"


def _of_methods(document: Document) -> Iterator[str]:
    for role, permissions in document.permissions.items():
        for permission in permissions:
            if document.upstreams[permission.upstream].speaks not in ("mcp", "mcp-sse"):
                continue
            for pattern in permission.methods:
                if not any(map(globs([pattern]), _METHODS)):
                    known = {*_METHODS, *(f"{method.partition('/')[0]}/*" for method in _METHODS if "/" in method)}
                    yield f"permissions.{role}: {pattern} is no method of MCP.{_meant(pattern, known)}"


def _meant(written: str, known: set[str]) -> str:
    close = difflib.get_close_matches(written, sorted(known), n=1)
    return f" Did you mean {close[0]}?" if close else ""


def _lacking(base: Path, secret: Secret) -> str | None:
    """Return where a secret should be and is not, or None; the gateway reads it anew each time, so it may come yet."""
    if secret.env is not None:
        return None if os.environ.get(secret.env) else f"the environment variable {secret.env}"
    file = base / (secret.file or "")
    try:
        found = file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        found = ""
    return None if found else f"the file {file}"
