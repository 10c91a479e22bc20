"""Release on the flow: the last stage before the gate."""

from typing import cast

from mitmproxy import http

from mcp_sod.errors import Unasked
from mcp_sod.exchange import Exchange, Standing
from mcp_sod.policy.upstreams import Upstream
from mcp_sod.release.credentials import BARE, forwarded, own_headers
from mcp_sod.stage import Stage, on_request
from mcp_sod.wire.mcp import Call


class Release(Stage):
    """Changes the credentials and asks the gate to let exactly this request leave."""

    @on_request
    async def request(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Release the request; the gate opens only if the verdict is Allow."""
        call, standing = cast("Call", exchange.call), cast("Standing", exchange.standing)
        _settle(call, standing)
        outgoing, upstream = standing.outgoing, cast("Upstream", exchange.upstream)
        kept = list(forwarded(flow.request.headers.fields, upstream.speaks, outgoing.headers))
        if exchange.declined is not None:  # nothing of the answer goes on, not what stands beside it either
            kept = [field for field in kept if field[0] in BARE]
        own = own_headers(exchange.policy, upstream)
        # Its length is stated anew: a body that came in chunks would else go on with nothing to say where it ends.
        body = exchange.request.body if outgoing.body is None else outgoing.body
        length = [(b"content-length", str(len(body)).encode())] if body or flow.request.method == "POST" else []
        flow.request.headers.fields = (*kept, *own, *length)
        flow.request.raw_content = body
        if outgoing.path is not None:
            flow.request.path = outgoing.path
        if not flow.request.is_http2:
            flow.request.authority = ""  # the target was checked; the upstream gets its own path alone
        self.gate.release(flow)


def _settle(call: Call, standing: Standing) -> None:
    """Take the one answer to a server's request."""
    if call.kind == "response" and not standing.conversation.settle(call.request_id or 0):
        raise Unasked("This request of the server's has its answer.")
