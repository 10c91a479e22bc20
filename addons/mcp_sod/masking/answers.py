"""The reply of an MCP server: JSON-RPC messages, whole or streamed."""

import re
from typing import cast
from urllib.parse import urljoin

from mcp_sod.errors import Withheld
from mcp_sod.exchange import Exchange, Standing
from mcp_sod.masking.masks import Masks
from mcp_sod.masking.reply import Reply
from mcp_sod.policy.addresses import address, route, target
from mcp_sod.policy.handovers import COLLECT, handover, takers
from mcp_sod.policy.upstreams import Upstream
from mcp_sod.wire.conversation import Conversation
from mcp_sod.wire.mcp import Call
from mcp_sod.wire.receipts import collecting_tool, tools_shown
from mcp_sod.wire.replies import check_reply, is_tool_list, kept_private, refusal_body, tags, without_tools
from mcp_sod.wire.splice import splice
from mcp_sod.wire.sse import Event
from mcp_sod.wire.strict_json import Json

_ENDPOINT = re.compile(r"[\x21-\x7e]{1,1024}")


class Answer(Reply):
    """Masks an MCP server's messages, and binds what they name to whoever gets them."""

    def __init__(self, exchange: Exchange, reader: Masks, record: Masks) -> None:
        """`exchange`: whose reply it is."""
        super().__init__(reader, record, exchange.policy.gateway.limits.depth)
        self._call = cast("Call", exchange.call)
        self._standing = cast("Standing", exchange.standing)
        self._upstream = cast("Upstream", exchange.upstream)
        self._upstreams = exchange.policy.document.upstreams
        self._visible = exchange.visible_tool
        self._on_result = exchange.on_result
        self._answered = False
        self._talk: Conversation = self._standing.conversation
        opened = self._call.kind == "stream"
        self._endpoint_due = opened and self._upstream.speaks == "mcp-sse"
        # The session and the event from which it goes on are this principal's.
        self._late = opened and bool(self._standing.session or self._call.header("last-event-id"))
        self._policy, self._name = exchange.policy, exchange.upstream_name or ""
        self._takers = takers(self._policy, self._name)
        if self._takers:  # an answer to another request could be the result that goes to someone else
            self._late = False
        self._mine = sorted(self._takers.intersection(exchange.roles or ()))

    def facts(self) -> dict[str, object]:
        """Return what the outcome record says; of a request also whether its answer came at all."""
        return super().facts() | ({"answered": self._answered} if self._call.is_request else {})

    def aside(self) -> bytes:
        """Return what the gateway itself has to say on this stream (MCP 2024-11-05: clients listen nowhere else)."""
        words = self._talk.words
        return b"".join(Event(words.popleft().decode(), kind="message").encode() for _ in range(len(words)))

    def event(self, event: Event) -> bytes:
        """Return the bytes of a masked event; raises Withheld."""
        if event.kind == "endpoint" and self._endpoint_due and event.data:
            self._endpoint_due = False
            return self.delivered(Event(self._endpoint(event.data), kind=event.kind).encode())
        if event.kind not in (None, "message"):
            raise Withheld("The reply has an event of a type that MCP does not use.")
        self._plain_id(event)
        data, event_id = event.data, event.event_id
        if data:
            data = self._message(data, self._parsed(data), streamed=True)
        if event_id:
            event_id = self._standing.owner.tagged("event", event_id, self._standing.session)
        return self.delivered(Event(data, event_id, event.retry, event.kind).encode())

    def ending(self, refusal: Withheld, reference: str) -> bytes:
        """Return the event with which a stream ends of which the rest is withheld."""
        return Event(refusal_body(self._call, refusal, reference, None).decode(), kind="message").encode()

    def _message(self, text: str, value: Json, *, streamed: bool) -> str:
        message = check_reply(value, self._call, self._talk, streamed=streamed, late=self._late)
        if "method" not in message:
            self._answered = True
            if self._on_result is not None:
                self._on_result(message)
        listing = self._call.method == "tools/list" or (self._late and is_tool_list(message))
        if listing and self._visible is not None:
            changes = without_tools(text, message, self._visible)
            if changes:
                text = splice(text, changes)
                message = cast("dict[str, Json]", self._parsed(text))
        if listing and self._takers:
            text = self._listed(text, message)
            message = cast("dict[str, Json]", self._parsed(text))
        masked = self._masked(text, message, listing=listing)
        if masked != text:
            message = cast("dict[str, Json]", self._parsed(masked))
        changes = kept_private(message, listing=listing) | tags(message, self._standing.owner)
        return splice(masked, changes) if changes else masked

    def _listed(self, text: str, message: dict[str, Json]) -> str:
        params = self._call.message.get("params")
        first = not (isinstance(params, dict) and params.get("cursor") is not None)
        own = collecting_tool(COLLECT, self._mine) if self._mine and first else None
        return tools_shown(text, message, lambda name: handover(self._policy, self._name, name) is not None, own=own)

    def _endpoint(self, given: str) -> str:
        """Return the path and query, bound to its owner, to which this client is to POST (MCP 2024-11-05)."""
        whole = urljoin(self._upstream.url, given)
        try:
            here = route(whole).partition("/")[0] == route(self._upstream.url).partition("/")[0]
            here = here and address(whole) == address(self._upstream.url)
            others = [_bare(upstream.url) for upstream in self._upstreams.values()]
            here = here and _bare(whole) not in others  # another upstream has its own permissions
        except (KeyError, ValueError):
            here = False
        if not here or _ENDPOINT.fullmatch(given) is None or self._reader.redacted(given) != given:
            raise Withheld("The upstream named an endpoint that is not its own.")
        endpoint = target(route(whole))
        self._talk, self._late = self._standing.talk(endpoint), True
        return self._standing.owner.tagged("endpoint", endpoint)


def _bare(url: str) -> str:
    return route(url).partition("?")[0].rstrip("/")
