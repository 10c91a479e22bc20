"""Roles on the flow."""

from typing import cast

from mitmproxy import http

from mcp_sod.exchange import Exchange, Principal
from mcp_sod.policy.upstreams import Upstream
from mcp_sod.roles.duties import check_permission, roles_of, visible_tool
from mcp_sod.stage import Stage, on_request
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.models import check_provider


class Roles(Stage):
    """Refuses principals whose duties exclude each other, and calls that no role of theirs may make."""

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Fill in roles and which tools a list may show."""
        principal, call = cast("Principal", exchange.principal), cast("Call", exchange.call)
        upstream = cast("str", exchange.upstream_name)
        exchange.roles = roles_of(principal, exchange.policy)
        check_permission(exchange.policy, exchange.roles, upstream, call, principal)
        here = cast("Upstream", exchange.upstream)
        if here.speaks in ("openai", "anthropic") and here.provider_mcp == "refuse":
            check_provider(here.speaks, call.message)
        if call.method == "tools/list" or call.kind == "stream":  # a late list may come on a stream
            exchange.visible_tool = visible_tool(exchange.policy, exchange.roles, upstream)
