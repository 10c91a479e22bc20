"""Sessions on the flow."""

import functools
import re
from typing import cast

from mitmproxy import http

from mcp_sod.errors import Withheld
from mcp_sod.exchange import Exchange, Principal
from mcp_sod.gate import Gate
from mcp_sod.sessions.binding import stand
from mcp_sod.stage import Stage, on_reply_head, on_request, worked_out
from mcp_sod.wire.conversation import Conversations
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.ownership import Owner

_PLAIN = re.compile(r"[\x21-\x7e]{1,224}")  # leaves room for a tag in what `release` lets through


class Sessions(Stage):
    """Lets each principal use only what servers gave to that very principal."""

    def __init__(self, gate: Gate, key: bytes, conversations: Conversations) -> None:
        """`key` makes the tags; `conversations` says who waits for which answer."""
        super().__init__(gate)
        self._key = key
        self._conversations = conversations

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Fill in where the call stands."""
        principal, call = cast("Principal", exchange.principal), cast("Call", exchange.call)
        owner = _owner(self._key, exchange.upstream_name or "", *principal.binding)
        talk = functools.partial(self._conversations.of, owner.key)
        request, endpoint = exchange.request, exchange.by_endpoint
        found = await worked_out(len(request.body), stand, call, request, owner, talk, endpoint=endpoint)
        exchange.call, exchange.standing = found

    @on_reply_head
    async def responseheaders(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Bind the session that the server has begun to its principal; forget one that has ended."""
        standing, call, response = exchange.standing, cast("Call", exchange.call), cast("http.Response", flow.response)
        if standing is None:
            raise Withheld("The call's session is not known.")
        if call.kind == "close" and response.status_code < 400:
            self._conversations.end(standing.owner.key, standing.session)
        exchange.bound = True
        given = response.headers.get("mcp-session-id")
        if given is None:
            return
        if _PLAIN.fullmatch(given) is None:
            raise Withheld("The upstream's session id is not plain.")
        if call.method != "initialize" and given != standing.session:
            del response.headers["mcp-session-id"]  # a session begins with `initialize`, and with nothing else
        else:
            response.headers["mcp-session-id"] = standing.owner.tagged("session", given)


@functools.lru_cache(maxsize=1024)
def _owner(key: bytes, *who: str) -> Owner:
    return Owner.of(key, *who)
