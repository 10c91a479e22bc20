"""Identity on the flow: the second stage."""

from collections.abc import Callable

from mitmproxy import http

from mcp_sod.exchange import Exchange
from mcp_sod.gate import Gate
from mcp_sod.identity.tokens import Verifier
from mcp_sod.stage import Stage, on_request


class Identity(Stage):
    """Finds out who is calling, from the token in `Authorization`."""

    def __init__(self, gate: Gate, verifier: Callable[[], Verifier]) -> None:
        """`verifier` gives the verifier of the policy of the moment."""
        super().__init__(gate)
        self._verifier = verifier

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Fill in the principal."""
        tokens = exchange.request.header("authorization")
        exchange.principal = await self._verifier().principal(tokens)
