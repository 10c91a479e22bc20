"""What an upstream is sent: known headers only, and the gateway's own credential."""

import os
import re
from pathlib import Path

from mcp_sod.errors import Unavailable
from mcp_sod.policy.model import Secret, Upstream
from mcp_sod.policy.policy import Policy

# Each in a form that carries nothing else, or inspected with the call (session id, host, and what the body repeats).
_FORWARDED = {
    b"accept": re.compile(rb"(?:(?:application/json|text/event-stream|\*/\*)(?:; ?q=[01](?:\.\d)?)?(?:, ?|$))+"),
    b"content-type": re.compile(rb"(?i)application/json(?:; ?charset=\"?utf-8\"?)?"),
    b"host": re.compile(rb"[\w.:\[\]-]{1,255}"),
    b"mcp-method": re.compile(rb".+"),
    b"mcp-name": re.compile(rb".+"),
    b"mcp-protocol-version": re.compile(rb"\d{4}-\d\d-\d\d"),
    b"mcp-session-id": re.compile(rb"[\x21-\x7e]{1,256}"),
    b"traceparent": re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
}


def forwarded(name: bytes, value: bytes) -> bool:
    """Say whether a request's header goes on; `name` in lower case. Credentials and unknown ones do not."""
    form = _FORWARDED.get(name)
    return name.startswith(b"mcp-param-") if form is None else form.fullmatch(value) is not None


def own_headers(policy: Policy, upstream: Upstream) -> list[tuple[bytes, bytes]]:
    """Return the headers that the gateway adds; raises Unavailable when its credential cannot be read."""
    headers = [(b"accept-encoding", b"identity")]
    if upstream.credential is not None:
        headers.append((b"authorization", b"Bearer " + _secret(policy.base, upstream.credential.bearer).encode()))
    return headers


def _secret(base: Path, secret: Secret) -> str:
    if secret.env is not None:
        found, where = os.environ.get(secret.env, ""), f"the environment variable {secret.env}"
    else:
        assert secret.file is not None
        found, where = _read(base / secret.file), f"the file {base / secret.file}"
    if not found or not found.isascii() or not found.isprintable():
        raise Unavailable(
            "The gateway's own credential for this upstream is missing.", operator=f"Put it into {where}."
        )
    return found


def _read(file: Path) -> str:
    # A few bytes, cached by the kernel, read anew each time: a rotated secret is used at once.
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
