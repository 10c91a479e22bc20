"""What a refused caller is told, in the shape that its client parses and its session survives."""

from mcp_sod.errors import Refusal, Unauthenticated
from mcp_sod.exchange import Exchange
from mcp_sod.wire.replies import refusal_body


def answer(exchange: Exchange, refusal: Refusal) -> tuple[int, bytes, dict[str, str]]:
    """Return HTTP status, body and headers; a bad token is challenged (RFC 6750, section 3)."""
    call = exchange.call
    in_band = refusal.in_band and call is not None and call.is_request
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    if isinstance(refusal, Unauthenticated):
        headers["www-authenticate"] = f'Bearer realm="{exchange.policy.gateway.name}"{refusal.challenge}'
    body = refusal_body(call, refusal, exchange.reference, exchange.ticket)
    return 200 if in_band else refusal.status, body, headers
