"""Arrival on the connection: deadlines for heads and bodies, and a bound for heads, which mitmproxy has not.

mitmproxy's own time-out is for silence: a byte now and then renews it. And killing a flow does nothing while its body
is being read. So overdue clients lose their connection; the flow's `error` hook then has it on record.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Callable
from typing import Self

from mitmproxy import connection, ctx, http
from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers import http as http_layer
from mitmproxy.proxy.layers.http import _base, _events, _http1
from mitmproxy.utils import asyncio_utils

from mcp_sod.gate import Gate

SWEEP = 0.25  # seconds between two looks at what is overdue
IDLE = 600.0  # seconds for the next head on a connection that is kept open; mitmproxy's default for silence
MAX_HEAD = 64 * 1024  # bytes of a request's or a reply's head


class Arrival:
    """A top-level addon that ends connections whose requests do not arrive in time."""

    name = "sod-arrival"

    def __init__(self, gate: Gate, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        """`patience`: seconds for a head from the connection's start, and for a body from its head's end."""
        self._gate = gate
        self._patience = patience
        self._clock = clock
        self._heads: dict[str, float] = {}  # until when, by the id of the client's connection
        self._bodies: dict[http.HTTPFlow, float] = {}
        self._busy: Counter[str] = Counter()  # flows under way, by connection

    def running(self) -> None:
        """Begin to look."""
        self._task = asyncio_utils.create_task(self._sweep(), name="sod arrival", keep_ref=True)

    def client_connected(self, client: connection.Client) -> None:
        """Expect a head."""
        self._heads[client.id] = self._clock() + self._patience

    def client_disconnected(self, client: connection.Client) -> None:
        """Expect nothing more."""
        self._heads.pop(client.id, None)
        del self._busy[client.id]

    def http_connected(self, flow: http.HTTPFlow) -> None:
        """Expect a head inside a tunnel."""
        self._heads[flow.client_conn.id] = self._clock() + self._patience

    def requestheaders(self, flow: http.HTTPFlow) -> None:
        """Expect the body."""
        self._heads.pop(flow.client_conn.id, None)
        self._busy[flow.client_conn.id] += 1
        self._bodies[flow] = self._clock() + self._patience

    def request(self, flow: http.HTTPFlow) -> None:
        """Take note that it has arrived."""
        self._bodies.pop(flow, None)

    def response(self, flow: http.HTTPFlow) -> None:
        """Expect the next head, some time."""
        self._bodies.pop(flow, None)
        self._busy[flow.client_conn.id] -= 1
        if self._busy[flow.client_conn.id] <= 0:
            self._heads[flow.client_conn.id] = self._clock() + IDLE

    error = response

    async def overdue(self) -> None:
        """End the connections of whoever is overdue."""
        now = self._clock()
        for flow, until in list(self._bodies.items()):
            if until < now:
                del self._bodies[flow]
                self._gate.passage(flow).overdue = True
                await _end(flow.client_conn.id)
        for client, until in list(self._heads.items()):
            if until < now:
                del self._heads[client]
                await _end(client)

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP)
            await self.overdue()


async def _end(client: str) -> None:
    handler = ctx.master.addons.get("proxyserver").connections.get(client)  # type: ignore[no-untyped-call]
    if handler is not None:
        await handler.on_timeout()


def bound_memory() -> None:
    """Have mitmproxy give up on an HTTP/1 head without end and on bytes before their turn; and keep bodies tightly."""
    for kind, name in ((_http1.Http1Server, "read_headers"), (_http1.Http1Client, "read_headers"),
                       (_http1.Http1Connection, "wait")):  # fmt: skip
        setattr(kind, name, _bounded(vars(kind)[name]))
    vars(http_layer)["ReceiveBuffer"] = Body


type _State = Callable[[_http1.Http1Connection, events.Event], layer.CommandGenerator[None]]


def _bounded(known: _State) -> _State:
    def state(self: _http1.Http1Connection, event: events.Event) -> layer.CommandGenerator[None]:
        yield from known(self, event)
        if len(self.buf) > MAX_HEAD and self.state in (self.read_headers, self.wait):
            yield commands.CloseConnection(self.conn)
            self.buf.maybe_extract_at_most(len(self.buf))
            waiting = self.state == self.read_headers and isinstance(self, _http1.Http1Client)
            self.state = self.done
            if waiting and self.stream_id is not None:
                problem, code = "The head of the reply is too large.", _events.ErrorCode.GENERIC_SERVER_ERROR
                yield _base.ReceiveHttp(_events.ResponseProtocolError(self.stream_id, problem, code))

    return state


class Body:
    """What mitmproxy collects a body in: there a list of pieces, which in pieces of a byte costs a hundredfold."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def __iadd__(self, piece: bytes) -> Self:
        self._bytes += piece
        return self

    def __len__(self) -> int:
        return len(self._bytes)

    def __bytes__(self) -> bytes:
        return bytes(self._bytes)

    def clear(self) -> None:
        """Begin anew."""
        self._bytes = bytearray()
