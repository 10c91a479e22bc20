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
        kept = [field for field in flow.request.headers.fields if forwarded(field[0].lower())]
        own = own_headers(exchange.policy, cast("Upstream", exchange.upstream))
        flow.request.headers.fields = (*kept, *own)
        if not flow.request.is_http2:
            flow.request.authority = ""  # the target was checked; the upstream gets its own path alone
        self.gate.release(flow)
