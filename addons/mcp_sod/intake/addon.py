"""Intake on the flow: the first stage, for requests and for replies."""

from http import HTTPStatus
from typing import cast

from mitmproxy import http
from mitmproxy.net.http.status_codes import RESPONSES

from mcp_sod.errors import Malformed, Withheld
from mcp_sod.exchange import Exchange
from mcp_sod.intake.admission import admit, kept_reply_header, reply_kind
from mcp_sod.policy.upstreams import Upstream
from mcp_sod.stage import Stage, on_reply_head, on_request, worked_out


class Intake(Stage):
    """Reads the request as one call for one upstream, and tells what kind of reply comes back."""

    @on_request
    async def request(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Fill in upstream and call."""
        if flow.request.trailers:
            raise Malformed("Trailers are not accepted here.")
        request = exchange.request
        route, exchange.call = await worked_out(len(request.body), admit, request, exchange.policy)
        exchange.upstream_name, exchange.upstream, exchange.by_endpoint = route.name, route.upstream, route.given

    @on_reply_head
    async def responseheaders(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Fill in the reply's kind, and drop headers and a reason phrase that could carry anything."""
        response = cast("http.Response", flow.response)
        fields = [(name.lower(), value) for name, value in response.headers.fields]
        upstream = cast("Upstream", exchange.upstream)
        if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.PROXY_AUTHENTICATION_REQUIRED):
            operator = f"See credential: of upstream {exchange.upstream_name} in the policy."
            raise Withheld("The upstream did not accept the gateway's own credential.", operator=operator)
        exchange.reply_kind = reply_kind(upstream.speaks, response.status_code, fields)
        response.headers.fields = tuple(field for field in fields if kept_reply_header(*field))
        response.reason = RESPONSES.get(response.status_code, "")
