"""What an upstream is sent: known headers only, and the gateway's own credential."""

import os
from pathlib import Path

from mcp_sod.errors import Unavailable
from mcp_sod.policy.model import Secret, Upstream
from mcp_sod.policy.policy import Policy

_FORWARDED = frozenset({
    b"accept", b"accept-language", b"content-length", b"content-type", b"host", b"last-event-id", b"mcp-method",
    b"mcp-name", b"mcp-protocol-version", b"mcp-session-id", b"traceparent", b"user-agent",
})  # fmt: skip


def forwarded(name: bytes) -> bool:
    """Say whether a request's header goes on; `name` in lower case. Credentials and unknown ones do not."""
    return name in _FORWARDED or name.startswith(b"mcp-param-")


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
        raise Unavailable("The gateway's own credential for this upstream is missing.", hint=f"Put it into {where}.")
    return found


def _read(file: Path) -> str:
    # A few bytes, cached by the kernel, read anew each time: a rotated secret is used at once.
    try:
        return file.read_text("ascii").strip()
    except (OSError, UnicodeDecodeError):
        return ""
