"""The gate: everything is refused until the whole chain has said yes, and what leaves is what it said yes to.

mitmproxy forwards a request when an addon fails, and drops an addon whose script breaks or vanishes. So the gate is
an entry of its own behind the script: it puts a refusal on every flow before any stage runs, and takes it off, as
its very last act, only for bytes whose digest a stage released. Verdicts are kept here, never on the flow, which
other addons and replays could copy.
"""

import asyncio
import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import override
from weakref import WeakKeyDictionary

from mitmproxy import http
from mitmproxy.utils import asyncio_utils

from mcp_sod.answer import Instead, answer, why_broken
from mcp_sod.contracts import Runtime
from mcp_sod.errors import AuditError, Refusal, SodError, Unavailable, Withheld
from mcp_sod.exchange import Exchange, Request
from mcp_sod.signing_key import thumbprint
from mcp_sod.tunnels.addon import Tunnels

logger = logging.getLogger("mcp_sod")

type Flow = http.HTTPFlow


@dataclass(slots=True)
class Passage:
    """One flow's way through the gate."""

    exchange: Exchange | None = None
    answer: http.Response | None = None  # the gateway's own answer
    released: bytes | None = None  # digest of the request that may leave
    sent: bool = False
    sealed: bytes | None = None  # digest of the reply (or of its head, for a stream) that may be delivered
    stream: Callable[[bytes], object] | None = None
    finished: bool = False  # its outcome is on record
    overdue: bool = False  # its body did not come in time


class Gate(Tunnels):
    """A top-level addon: it outlives the script, and the refusal it puts on a flow outlives every failure."""

    name = "sod-gate"

    def __init__(self, runtime: Runtime | None, settled: Callable[[], None]) -> None:
        """Without a runtime, everything is refused; `settled` is called once mitmproxy runs."""
        super().__init__()
        self.runtime = runtime
        self._settled = settled
        self._task: asyncio.Task[None] | None = None
        self._passages: WeakKeyDictionary[http.HTTPFlow, Passage] = WeakKeyDictionary()

    async def running(self) -> None:
        """Begin, once mitmproxy runs."""
        self._settled()
        if self.runtime is None:
            return
        try:
            await self.runtime.begin()
        except SodError as error:
            self.runtime = None
            logger.error("The gateway cannot start.\n%s", error)  # noqa: TRY400 (the sentence says what to do)
        else:
            self._task = asyncio_utils.create_task(self.runtime.run(), name="sod runtime", keep_ref=True)

    async def done(self) -> None:
        """End with mitmproxy."""
        if self.runtime is not None and self._task is not None:
            self._task.cancel()
            await self.runtime.end()

    # what the stages ask of it

    def passage(self, flow: http.HTTPFlow) -> Passage:
        """Return the flow's passage; a flow never seen before gets one that nothing has released."""
        return self._passages.setdefault(flow, Passage())

    def exchange(self, flow: http.HTTPFlow) -> Exchange:
        """Return the flow's exchange, begun with the policy of this moment."""
        passage = self.passage(flow)
        if passage.exchange is None:
            assert self.runtime is not None  # no stage stands before a gate without a runtime
            passage.exchange = Exchange(self.runtime.policy, _request(flow, self.said(flow.client_conn)))
        return passage.exchange

    def release(self, flow: http.HTTPFlow) -> None:
        """Let exactly this request leave."""
        self.passage(flow).released = request_digest(flow.request)

    def seal(self, flow: http.HTTPFlow, stream: Callable[[bytes], object] | None = None) -> None:
        """Let exactly this reply be delivered; with a stream, its head now and its body through that function."""
        assert flow.response is not None
        passage = self.passage(flow)
        passage.stream = stream
        passage.sealed = response_digest(flow.response, head_only=stream is not None)

    def finish(self, flow: http.HTTPFlow) -> None:
        """Take note that the outcome is on record: without that, no whole reply is delivered."""
        self.passage(flow).finished = True

    def settle(self, flow: http.HTTPFlow, status: int, body: bytes, headers: dict[str, str]) -> None:
        """Answer with the gateway's own words, which a stage has put on record; nothing goes upstream."""
        passage = self.passage(flow)
        passage.finished = True
        flow.response = passage.answer = http.Response.make(status, body, headers)

    async def refuse(self, flow: http.HTTPFlow, refusal: Refusal, *, head: bool = False) -> None:
        """Record a refusal and answer with it; if it cannot be recorded it is still a refusal.

        `head`: only the head of the upstream's reply has come yet.
        """
        passage, exchange = self.passage(flow), self.exchange(flow)
        passage.finished = True
        flow.response = passage.answer = http.Response.make(*answer(exchange, refusal))
        if head:  # the upstream's body is still to come, and mitmproxy will put it into flow.response
            passage.answer = flow.response.copy()
            flow.response.stream = swallow = Instead(passage.answer.raw_content or b"")
            self.seal(flow, swallow)
        facts = exchange.facts() | {
            "code": refusal.code,
            "reason": refusal.told,
            "status": flow.response.status_code,
        }
        if refusal.event == "rejected":
            facts["peer"] = exchange.request.peer
        event = Withheld.event if passage.sent else refusal.event
        await self.note(event, **facts)
        logger.info("%s %s: %s", event, exchange.reference, refusal.told)

    # requests

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Close the door before anything else happens to the flow."""
        flow.response = _DOOR
        self._passages[flow] = Passage()
        flow.request.stream = False

    async def request(self, flow: http.HTTPFlow) -> None:
        """Open the door, as the last addon and the last statement, only for what was released."""
        passage = self.passage(flow)
        if self.runtime is None or passage.answer is not None:
            flow.response = passage.answer or _closed()  # whatever another addon made of it
            return
        if not _may_leave(flow, passage):
            flow.response = _closed()
            await self.refuse(flow, Unavailable("The call was not released by every stage of the gateway."))
            return
        passage.sent = True
        flow.response = None

    # replies

    def responseheaders(self, flow: http.HTTPFlow) -> None:
        """Let a reply stream only through the masks that were sealed for it, with the head that was sealed."""
        passage = self.passage(flow)
        assert flow.response is not None
        if flow.response.stream and not (
            passage.stream is flow.response.stream and passage.sealed == response_digest(flow.response, head_only=True)
        ):
            flow.response.stream = False
            passage.stream = None

    async def response(self, flow: http.HTTPFlow) -> None:
        """Deliver nothing but a sealed reply or the gateway's own answer."""
        passage = self.passage(flow)
        assert flow.response is not None
        flow.response.trailers = None
        if self.runtime is None:
            flow.response = _closed()
        elif passage.answer is not None:
            if not (isinstance(passage.stream, Instead) and passage.stream.over):  # the client has it already
                flow.response = passage.answer
        elif flow.response.stream and passage.stream is flow.response.stream:  # it is at the client already
            if not passage.finished:
                await self._broken(flow, "The reply was streamed, but a stage of the gateway failed at its end.")
        elif not passage.finished or passage.sealed is None or response_digest(flow.response) != passage.sealed:
            flow.response = _closed()
            await self.refuse(flow, Withheld("The reply was not released by every stage of the gateway."))

    async def error(self, flow: http.HTTPFlow) -> None:
        """Record a request that ended, by itself or by its sender, before it had an outcome."""
        passage, message = self.passage(flow), flow.error.msg if flow.error else ""
        if passage.finished or self.runtime is None:
            return
        late = "The request did not arrive within gateway.limits.arrival."
        await self._broken(flow, late if passage.overdue else why_broken(message))

    async def _broken(self, flow: http.HTTPFlow, reason: str) -> None:
        """Record an exchange that ended without the outcome that its stages would have recorded."""
        passage, exchange = self.passage(flow), self.exchange(flow)
        passage.finished = True
        facts = exchange.facts() | {"code": "broken", "reason": reason, "status": None}
        if passage.sent:
            await self.note("replied", **{**exchange.reply(), **facts})
        else:
            await self.note("rejected", **facts)

    @override
    def listed(self, host: str, port: int) -> bool:
        """Say whether an upstream of the policy lives there."""
        return self.runtime is not None and self.runtime.listed(host, port)

    @override
    async def note(self, event: str, **facts: object) -> None:
        """Record something; what cannot be recorded is logged, and refused all the same."""
        if self.runtime is None:
            return
        try:
            await self.runtime.journal.write(event, **facts)
        except AuditError as error:
            logger.error("A record could not be written: %s", error)  # noqa: TRY400 (no traceback: no payload)


def request_digest(request: http.Request) -> bytes:
    """Return the SHA-256 of all that decides what an upstream receives, and where."""
    data = request.data
    trailers = None if data.trailers is None else data.trailers.fields
    place = (data.method, data.scheme, data.host, data.port, data.path, data.authority, data.http_version)
    return _digest((*place, data.headers.fields, trailers), data.content or b"")


def response_digest(response: http.Response, *, head_only: bool = False) -> bytes:
    """Return the SHA-256 of all that a client receives, or of its head."""
    head = (response.status_code, response.reason, response.headers.fields)
    return _digest(head, b"" if head_only else response.raw_content or b"")


def _digest(head: tuple[object, ...], body: bytes) -> bytes:
    return hashlib.sha256(repr(head).encode() + b"\0" + body).digest()


def _may_leave(flow: http.HTTPFlow, passage: Passage) -> bool:
    return (
        passage.released is not None
        and passage.exchange is not None
        and passage.exchange.complete
        and not flow.is_replay
        and passage.released == request_digest(flow.request)
    )


def _request(flow: http.HTTPFlow, tunnel: tuple[str, ...]) -> Request:
    data, shown = flow.request.data, flow.client_conn.certificate_list
    scheme, path = data.scheme.decode("latin-1"), data.path.decode("latin-1")
    host = f"[{data.host}]" if ":" in data.host else data.host
    return Request(
        method=data.method.decode("latin-1"),
        url=f"{scheme}://{host}:{data.port}{path}",
        headers=tuple((name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in data.headers.fields),
        body=data.content or b"",
        authority=data.authority.decode("latin-1"),
        peer=str(flow.client_conn.peername[0]),
        forward=not flow.client_conn.proxy_mode.full_spec.startswith("reverse"),
        http2=flow.client_conn.alpn == b"h2",
        version=flow.request.http_version,
        server_name=flow.client_conn.sni,
        secure=flow.client_conn.tls,
        certificate=thumbprint(shown[0].fingerprint()) if shown else None,
        tunnel=tunnel,
    )


def _closed() -> http.Response:
    """Return the answer that stands on every flow until a stage has something better to say."""
    return http.Response.make(503, b'{"error":"refused by the gateway"}', {"content-type": "application/json"})


_DOOR = _closed()  # on every flow at first; making one anew costs more than most stages
