"""What an upstream is sent: known headers only, and the gateway's own credential."""

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from urllib.parse import unquote

from mcp_sod.errors import Denied, Unavailable
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.secrets import read_secret
from mcp_sod.policy.upstreams import Credential, Speaks, Upstream

# Each in a form that carries nothing else, or inspected with the call (session id, host, and what the body repeats).
_ANY = {
    b"accept": re.compile(
        rb"(?:(?:application/json|text/event-stream|text/plain|\*/\*)(?:; ?q=[01](?:\.\d)?)?(?:, ?|$))+"
    ),
    b"content-type": re.compile(rb"(?i)(?:application/json|text/[a-z.+-]{1,40})(?:; ?charset=\"?utf-8\"?)?"),
    b"host": re.compile(rb"[\w.:\[\]-]{1,255}"),
    b"traceparent": re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}"),
}
_MCP = _ANY | {
    b"last-event-id": re.compile(rb"[\x21-\x7e]{1,540}"),
    b"mcp-method": re.compile(rb".+"),
    b"mcp-name": re.compile(rb".+"),
    b"mcp-protocol-version": re.compile(rb"[\w.-]{1,32}"),
    b"mcp-session-id": re.compile(rb"[\x21-\x7e]{1,256}"),
    b"origin": re.compile(rb"null|https?://[\w.:\[\]-]{1,255}"),
}
_FORWARDED: dict[Speaks, dict[bytes, re.Pattern[bytes]]] = {
    "mcp": _MCP,
    "mcp-sse": _MCP,
    "openai": _ANY,
    "anthropic": _ANY | {
        b"anthropic-version": re.compile(rb"\d{4}-\d\d-\d\d"),
        b"anthropic-beta": re.compile(rb"[a-z0-9-]{1,64}(?:, ?[a-z0-9-]{1,64}){0,9}"),
    },
    "http": _ANY | {
        b"idempotency-key": re.compile(rb'"?[\w.:-]{1,128}"?'),
        b"if-match": re.compile(rb'\*|(?:(?:W/)?"[\x21\x23-\x7e]{0,128}"(?:, ?|$))+'),
        b"if-none-match": re.compile(rb'\*|(?:(?:W/)?"[\x21\x23-\x7e]{0,128}"(?:, ?|$))+'),
    },
}  # fmt: skip

BARE = frozenset({b"accept", b"content-type", b"host", b"mcp-protocol-version", b"mcp-session-id"})

UNQUOTED = 2  # times: servers that hand an address on undo it again

type Fields = tuple[tuple[bytes, bytes], ...]


def forwarded(fields: Fields, speaks: Speaks, changed: Mapping[str, str]) -> Iterator[tuple[bytes, bytes]]:
    """Yield the request's headers that go on, some with other values. Credentials and unknown ones do not."""
    forms, news = _FORWARDED[speaks], {name.encode(): value.encode() for name, value in changed.items()}
    for name, value in fields:
        lower = name.lower()
        form = forms.get(lower)
        if form is None:
            if speaks in ("mcp", "mcp-sse") and lower.startswith(b"mcp-param-"):
                yield lower, value
        elif form.fullmatch(plain := _plain(value) if lower == b"content-type" else value):
            yield lower, news.get(lower, plain)


def _plain(content_type: bytes) -> bytes:
    return b"; ".join(part.strip() for part in content_type.split(b";"))


def keep_back(token: str | None, *parts: bytes, texts: Callable[[], Iterable[str]] = tuple) -> None:
    """Refuse a call in one of whose parts the caller's token stands, which is for the gateway alone; raises Denied.

    `texts`: gives what the call says once its escapes are undone. In texts and parts, percent-encoding is looked
    through. Parts in which nothing could be disguised are searched as they are, which costs a hundredth of that.
    """
    if not token:
        return
    if disguised(*parts):
        found = _stands_in(token, "\n".join([*texts(), *(part.decode("utf-8", "replace") for part in parts)]))
    else:
        found = any(token.encode() in part for part in parts)
    if found:
        raise Denied("Your own token stands in a part of this call that would go on to the server.",
                     hint="Send it in Authorization alone.")  # fmt: skip


def disguised(*parts: bytes) -> bool:
    """Say whether something in these parts could be written otherwise than it is read.

    By percent-encoding, JSON's escapes, base64 in a header (MCP 2026-07-28), or letters of another width.
    """
    whole = b"\n".join(parts)
    return not whole.isascii() or b"%" in whole or b"\\" in whole or b"=?" in whole


def _stands_in(token: str, text: str) -> bool:
    for _ in range(UNQUOTED):
        if token in text or "%" not in text:
            break
        text = unquote(text)
    return token in text


def own_headers(policy: Policy, upstream: Upstream, exchanged: str | None = None) -> list[tuple[bytes, bytes]]:
    """Return the headers that the gateway adds; raises Unavailable when its credential cannot be read.

    `exchanged`: the token that the caller's was exchanged for, where the policy wants that.
    """
    headers = [(b"accept-encoding", b"identity")]
    if upstream.credential is not None:
        headers.append(_shown(policy.base, upstream.credential, exchanged))
    return headers


def _shown(base: Path, credential: Credential, exchanged: str | None) -> tuple[bytes, bytes]:
    if credential.header is not None:
        return credential.header.name.lower().encode(), read_secret(base, credential.header).encode()
    token = exchanged if credential.bearer is None else read_secret(base, credential.bearer)
    if token is None:
        raise Unavailable("There is no token for this upstream.")
    return b"authorization", b"Bearer " + token.encode()
