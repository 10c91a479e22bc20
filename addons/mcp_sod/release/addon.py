"""Release on the flow: the last stage before the gate."""

from typing import cast

from mitmproxy import http

from mcp_sod.exchange import Exchange
from mcp_sod.policy.model import Upstream
from mcp_sod.release.credentials import forwarded, own_headers
from mcp_sod.stage import Stage, on_request


class Release(Stage):
    """Changes the credentials and asks the gate to let exactly this request leave."""

    @on_request
    async def request(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Release the request; the gate opens only if the verdict is Allow."""
        kept = [field for field in flow.request.headers.fields if forwarded(field[0].lower(), field[1])]
        own = own_headers(exchange.policy, cast("Upstream", exchange.upstream))
        # Its length is stated anew: a body that came in chunks would else go on with nothing to say where it ends.
        length = (b"content-length", str(len(exchange.request.body)).encode())
        flow.request.headers.fields = (*kept, *own, length)
        if not flow.request.is_http2:
            flow.request.authority = ""  # the target was checked; the upstream gets its own path alone
        self.gate.release(flow)
