"""Release on the flow: the last stage before the gate."""

import time
from typing import cast
from urllib.parse import urlsplit

from mitmproxy import http

from mcp_sod.errors import Unasked
from mcp_sod.exchange import Exchange, Standing
from mcp_sod.gate import Gate
from mcp_sod.policy.upstreams import Upstream
from mcp_sod.release.assertion import Sent, claims
from mcp_sod.release.credentials import BARE, disguised, forwarded, keep_back, own_headers
from mcp_sod.release.exchanged import ExchangedTokens
from mcp_sod.release.signing import Signer
from mcp_sod.stage import Stage, on_request, worked_out
from mcp_sod.wire.mcp import Call


class Release(Stage):
    """Changes the credentials and asks the gate to let exactly this request leave."""

    def __init__(self, gate: Gate, exchanged: ExchangedTokens, signer: Signer, *, keeps_host: bool) -> None:
        """`exchanged` gives tokens for callers' own; `signer` signs what upstreams are told of a call.

        `keeps_host`: whether an upstream behind reverse mode is shown the Host that the client sent.
        """
        super().__init__(gate)
        self._keeps_host = keeps_host
        self._exchanged = exchanged
        self._signer = signer

    @on_request
    async def request(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Release the request; the gate opens only if the verdict is Allow."""
        call, standing = cast("Call", exchange.call), cast("Standing", exchange.standing)
        outgoing, upstream = standing.outgoing, cast("Upstream", exchange.upstream)
        path = flow.request.path if outgoing.path is None else outgoing.path
        kept = list(forwarded(flow.request.headers.fields, upstream.speaks, outgoing.headers))
        if exchange.declined is not None:  # nothing of the answer goes on, not what stands beside it either
            kept = [field for field in kept if field[0] in BARE]
        # Its length is stated anew: a body that came in chunks would else go on with nothing to say where it ends.
        body = exchange.request.body if outgoing.body is None else outgoing.body
        length = [(b"content-length", str(len(body)).encode())] if body or flow.request.method == "POST" else []
        parts = body, path.encode("utf-8", "surrogateescape"), *(value for _, value in kept)
        texts = exchange.inspected.texts.plain if exchange.inspected and exchange.declined is None else tuple
        await worked_out(len(body) if disguised(*parts) else 0, keep_back, exchange.token, *parts, texts=texts)
        own = own_headers(exchange.policy, upstream, await self._exchange(exchange, upstream))
        told = self._told(exchange, upstream, Sent(flow.request.method, _whole(upstream, path), body))
        _settle(call, standing)
        flow.request.headers.fields = (*kept, *own, *told, *length)
        flow.request.raw_content, flow.request.path = body, path
        if not (exchange.request.forward or self._keeps_host):
            flow.request.host_header = urlsplit(upstream.url).netloc
        if not flow.request.is_http2:
            flow.request.authority = ""  # the target was checked; the upstream gets its own path alone
        self.gate.release(flow)

    async def _exchange(self, exchange: Exchange, upstream: Upstream) -> str | None:
        """Return the token that the caller's is exchanged for, if it is."""
        settings = None if upstream.credential is None else upstream.credential.exchange
        try:
            if settings is None:
                return None
            token = await self._exchanged.token(exchange, settings)
        finally:
            exchange.token = None
        if (barred := exchange.barred()) is not None:  # in the meantime
            raise barred
        return token

    def _told(self, exchange: Exchange, upstream: Upstream, sent: Sent) -> list[tuple[bytes, bytes]]:
        if upstream.assertion is None:
            return []
        signed = self._signer.sign(claims(exchange, upstream.assertion, sent, time.time()))
        return [(upstream.assertion.header.encode(), signed.encode())]


def _whole(upstream: Upstream, path: str) -> str:
    """Return the URL of a path on the upstream's host, which stands there as in the policy."""
    parts = urlsplit(upstream.url)
    return f"{parts.scheme}://{parts.netloc}{path}"


def _settle(call: Call, standing: Standing) -> None:
    """Take the one answer to a server's request."""
    if call.kind == "response" and not standing.conversation.settle(call.request_id or 0):
        raise Unasked("This request of the server's has its answer.")
