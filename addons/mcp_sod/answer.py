"""What a refused caller is told, in the shape that its client parses and its session survives."""

from http import HTTPStatus

from mcp_sod.challenges import challenges
from mcp_sod.errors import Held, InsufficientScope, Refusal, Unauthenticated
from mcp_sod.exchange import Exchange
from mcp_sod.resource import metadata_address
from mcp_sod.wire.models import Told, model_refusal
from mcp_sod.wire.replies import refusal_body
from mcp_sod.wire.strict_json import dumps


def answer(exchange: Exchange, refusal: Refusal) -> tuple[int, bytes, dict[str, str]]:
    """Return HTTP status, body and headers; a bad token is challenged (RFC 6750, section 3)."""
    headers = {"content-type": "application/json", "cache-control": "no-store"}
    if isinstance(refusal, Unauthenticated | InsufficientScope):
        headers |= challenges(exchange.policy, refusal, metadata_address(exchange.request, exchange.policy))
    speaks = "mcp" if exchange.upstream is None else exchange.upstream.speaks
    told = Told(refusal.for_caller, refusal.code, exchange.reference, exchange.ticket)
    # For clients outside MCP a held call is a conflict, which they repeat by themselves.
    status = HTTPStatus.CONFLICT if isinstance(refusal, Held) else refusal.status
    match speaks:
        case "openai" | "anthropic":
            return status, model_refusal(speaks, status, told), headers
        case "http":
            return status, dumps({"error": told._asdict()}).encode(), headers
    call = exchange.call
    in_band = refusal.in_band and call is not None and call.is_request
    body = refusal_body(call, refusal, exchange.reference, exchange.ticket)
    if refusal.in_band and speaks == "mcp-sse" and exchange.standing is not None and exchange.by_endpoint:
        # Its client listens on its stream alone; and any other status here would end its session.
        if in_band:
            exchange.standing.conversation.words.append(body)
        return HTTPStatus.ACCEPTED, b"", headers
    return 200 if in_band else refusal.status, body, headers


class Instead:
    """A stream that swallows the upstream's body and gives the answer's in its place, once."""

    watched = True

    def __init__(self, body: bytes) -> None:
        """`body`: what the client gets."""
        self._body = body
        self.over = False

    def __call__(self, _chunk: bytes) -> list[bytes]:
        """Return the chunks to deliver for one of the upstream's."""
        rest = [] if self.over or not self._body else [self._body]
        self.over = True
        return rest

    def aside(self) -> list[bytes]:
        """Return the body without waiting for the upstream's."""
        return self(b"")


_BROKEN = {  # what mitmproxy's messages hold, which may quote the peer, and what is said of it
    "body_size_limit": "The message is larger than gateway.limits.body.",
    "ertificate verify failed": "The upstream's certificate is not trusted; for a private CA, see the README.",
    "Client disconnected": "The client left.",
    "peer closed connection": "The client left.",
    "onnect call failed": "The upstream could not be reached.",
    "onnection refused": "The upstream could not be reached.",
    "Name or service not known": "The upstream's name could not be resolved.",
}


def why_broken(message: str) -> str:
    """Return the sentence for a record of an exchange that ended before its outcome."""
    return next((sentence for part, sentence in _BROKEN.items() if part in message), "The connection ended.")
