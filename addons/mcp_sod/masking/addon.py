"""Masking on the flow: what records and approvers see of a call, and what a reader sees of the reply."""

import functools
import re
import time
from http import HTTPStatus
from typing import cast

from mitmproxy import http

from mcp_sod.answer import answer
from mcp_sod.errors import Ended, SodError, Withheld
from mcp_sod.exchange import Exchange, Inspected, Principal
from mcp_sod.masking.answers import Answer
from mcp_sod.masking.handover import HandedOver, bare_head
from mcp_sod.masking.masks import masks_for
from mcp_sod.masking.message import MaskedMessage
from mcp_sod.masking.models import ModelReply
from mcp_sod.masking.reply import KEPT, Reply, Stream
from mcp_sod.policy.policy import Policy
from mcp_sod.policy.upstreams import Upstream
from mcp_sod.stage import Stage, on_reply, on_reply_head, on_request, worked_out
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.receipts import Handed
from mcp_sod.wire.strict_json import Json, dumps

_KNOWN = frozenset({"host", "mcp-session-id", "last-event-id"})  # whose they are was seen to
_NOBODY: frozenset[str] = frozenset()
_MEDIA_TYPE = re.compile(r"[a-z]{1,20}/[a-z0-9.+-]{1,100}")


class Masking(Stage):
    """Masks calls for records and approvers, and replies for their readers."""

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Fill in what may be shown of the call."""
        exchange.redact = functools.partial(_redacted, exchange.policy)
        await worked_out(len(exchange.request.body), _inspect, exchange)

    @on_reply_head
    async def responseheaders(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Let an event stream through, event by event; everything else is read whole first."""
        if exchange.reply_kind != "events":
            return
        call, response = cast("Call", exchange.call), cast("http.Response", flow.response)
        reply = _reply(exchange, response)
        others = (field for field in response.headers.fields if field[0] != b"content-length")
        framing = () if flow.request.is_http2 else ((b"transfer-encoding", b"chunked"),)
        response.headers.fields = (*others, *framing)
        feed = exchange.upstream is not None and exchange.upstream.speaks == "http"
        lasts = feed or call.kind == "stream" or call.method == "subscriptions/listen"
        ended = functools.partial(self._ended, exchange, lasts=lasts)
        response.stream = Stream(reply, exchange.reference, exchange.policy.gateway.limits.body, ended)
        exchange.reply = reply.facts
        self.gate.seal(flow, response.stream)

    def _ended(self, exchange: Exchange, *, lasts: bool) -> SodError | None:
        """Return why a stream must not go on, if so; one that `lasts` may not outlive what it was judged by."""
        if exchange.barred() is not None:
            return Ended("Whoever reads this was revoked.")
        if not lasts:
            return None
        if cast("Principal", exchange.principal).expires <= time.time():
            return Ended("The token of whoever listens has expired.")
        if self.gate.runtime is None or self.gate.runtime.policy is not exchange.policy:
            return Ended("The policy has changed.")
        return None

    @on_reply
    async def response(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Mask a reply that was read whole."""
        response = cast("http.Response", flow.response)
        if response.stream:
            return
        reply = _reply(exchange, response)
        exchange.reply = reply.facts
        if exchange.barred() is not None:
            raise Withheld("Whoever reads this was revoked.")
        kind = exchange.reply_kind
        if kind is None:
            raise Withheld("The head of the upstream's reply was not inspected.")
        raw = b"" if _says_nothing(exchange, response.status_code) else response.raw_content or b""
        try:
            body = await worked_out(len(raw), reply.whole, raw, kind)
        except Withheld as withheld:
            withheld.operator = withheld.operator or _answered(response)
            if response.status_code < 400:
                raise
            reply.problem = withheld  # the status stays: clients act on it
            response.headers["content-type"] = "application/json"
            _, body, _ = answer(exchange, withheld)
        response.raw_content = body
        if (b"content-length", length := str(len(body)).encode()) not in response.headers.fields:
            others = (field for field in response.headers.fields if field[0] != b"content-length")
            response.headers.fields = (*others, (b"content-length", length))
        self.gate.seal(flow)


def _reply(exchange: Exchange, response: http.Response) -> Reply:
    if not exchange.bound:
        raise Withheld("The reply's session was not bound to who asked.")
    if exchange.recipient is None:
        raise Withheld("It was not decided who gets the reply.")
    reader = masks_for(exchange.policy, exchange.roles or _NOBODY)
    head = b"\n".join(value for _, value in response.headers.fields).decode("latin-1")
    if reader.redacted(head) != head:
        raise Withheld("A header of the upstream's reply holds something sensitive.")
    record, upstream = masks_for(exchange.policy, _NOBODY), cast("Upstream", exchange.upstream)
    match upstream.speaks:
        case "mcp" if isinstance(exchange.recipient, Handed):
            response.headers.fields = bare_head(response.headers.fields)
            taker = masks_for(exchange.policy, frozenset({exchange.recipient.receipt.role}))
            handed = HandedOver(exchange, exchange.recipient, taker, reader, record)
            handed.status = response.status_code
            return handed
        case "mcp" | "mcp-sse":
            return Answer(exchange, reader, record)
        case "http":
            return Reply(reader, record, exchange.policy.gateway.limits.depth)
        case _:
            return ModelReply(exchange, upstream.speaks, reader, record)


def _answered(response: http.Response) -> str:
    """Return what log and record say of a reply of which nothing is delivered: its status, and its kind by name."""
    kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    named = f"content type {kind}" if _MEDIA_TYPE.fullmatch(kind) else "no plain content type"
    return f"The upstream answered {response.status_code} with {named}."


def _says_nothing(exchange: Exchange, status: int) -> bool:
    """Say whether the reply is a mere acknowledgement, of which clients read no body (202 Accepted and the like)."""
    upstream, call = cast("Upstream", exchange.upstream), cast("Call", exchange.call)
    mcp = upstream.speaks in ("mcp", "mcp-sse")
    return mcp and status < 400 and (status == HTTPStatus.ACCEPTED or call.kind not in ("request", "stream"))


def _redacted(policy: Policy, text: str) -> str:
    return _short_redacted(policy, text) if len(text) <= 256 else masks_for(policy, _NOBODY).redacted(text)


@functools.lru_cache(maxsize=1024)
def _short_redacted(policy: Policy, text: str) -> str:
    return masks_for(policy, _NOBODY).redacted(text)


def _inspect(exchange: Exchange) -> None:
    """Sweep the call's texts, once for masks and rules alike, and make what may be shown of it."""
    call = cast("Call", exchange.call)
    found = call.texts()
    suspects = exchange.policy.sweep.suspects(found.plain())
    exchange.inspected = Inspected(found, suspects, len(exchange.request.body))
    message = MaskedMessage(masks_for(exchange.policy, _NOBODY), strict=False)
    written = exchange.request.body.decode() if call.written is None else call.written
    shown = message.text(written, call.message, found, suspects)
    beside: dict[str, Json] = {name: text for name, text in call.header_texts if name not in _KNOWN}
    if beside:  # what goes upstream with the message
        shown += "\n" + message.text(dumps({"headers": beside}), {"headers": beside})
    exchange.shown_whole = message.whole and len(shown) <= KEPT
    exchange.shown = _cut(shown)


def _cut(text: str) -> str:
    return text if len(text) <= KEPT else f"{text[:KEPT]} [cut: {len(text) - KEPT} more characters]"
