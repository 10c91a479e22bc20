"""Risk on the flow."""

import logging
from dataclasses import replace
from typing import cast

from mitmproxy import http

from mcp_sod.errors import Denied
from mcp_sod.exchange import Allow, Deny, Exchange, Hold, Inspected, Standing
from mcp_sod.risk.rules import findings, uncovered, verdict
from mcp_sod.stage import Stage, on_request, worked_out
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.replies import declined

logger = logging.getLogger("mcp_sod")


class Risk(Stage):
    """Finds what the policy calls risky, and says what it comes to."""

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Fill in findings and verdict."""
        call, upstream = cast("Call", exchange.call), cast("str", exchange.upstream_name)
        inspected = cast("Inspected", exchange.inspected)
        size = len(exchange.request.body)
        exchange.findings = await worked_out(size, findings, exchange.policy, call, upstream, inspected)
        exchange.verdict = verdict(exchange.policy, exchange.findings)
        exchange.uncovered = isinstance(exchange.verdict, Hold) and uncovered(exchange.policy, inspected)
        if call.kind == "response" and not isinstance(exchange.verdict, Allow):
            _decline(exchange, call)
        if isinstance(exchange.verdict, Deny):
            rules = ", ".join(exchange.verdict.rules)
            raise Denied(f"The policy forbids this call (rule {rules}).", hint="Leave out what the rule names.")


def _decline(exchange: Exchange, call: Call) -> None:
    """Put an error in the place of a risky answer: it cannot wait for approval, and the server waits for it."""
    standing = cast("Standing", exchange.standing)
    outgoing = replace(standing.outgoing, body=declined(call, exchange.reference))
    exchange.standing = replace(standing, outgoing=outgoing)
    exchange.declined = "An answer cannot wait for approval; the server got an error in its place."
    logger.info("declined %s: %s", exchange.reference, exchange.declined)
    exchange.verdict = Allow()
