"""The console's connections: none is held for longer than it is worth, and no number of them takes the gateway's files.

uvicorn's own time-outs are for silence alone: a byte now and then renews them.
"""

import asyncio
from typing import override

import h11
from uvicorn.config import Config
from uvicorn.protocols.http.h11_impl import H11Protocol

HEAD = 10.0  # seconds for a whole head, from the connection's start or the last answer's end
WHOLE = 60.0  # seconds from there until the request has come and its answer has gone
MOST = 128  # connections at once

type Stage = tuple[bool, object]  # whether a head is awaited, and the last request's cycle


class Connection(H11Protocol):
    """One connection, which ends when it is overdue, or when it has waited longest of too many."""

    def __init__(
        self, config: Config, server_state: object, app_state: dict[str, object],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:  # fmt: skip
        """Take what uvicorn gives."""
        super().__init__(config, server_state, app_state, _loop)  # type: ignore[arg-type]
        self._stage: Stage | None = None
        self._since = 0.0  # when it last began to wait for a request, on the loop's clock
        self._overdue: asyncio.TimerHandle | None = None

    @override
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._look()
        if len(self.connections) > MOST:
            self._make_room()

    @override
    def connection_lost(self, exc: Exception | None) -> None:
        if self._overdue is not None:
            self._overdue.cancel()
        super().connection_lost(exc)

    @override
    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self._look()

    @override
    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._look()

    @property
    def waits_since(self) -> float | None:
        """Since when it waits for a request to come in whole; None while one is being answered."""
        answering = self.conn.their_state in (h11.DONE, h11.MUST_CLOSE) and not self.cycle.response_complete
        return None if answering else self._since

    def _look(self) -> None:
        """Give each head its time, and each request with its answer."""
        stage = self.conn.their_state is h11.IDLE, self.cycle
        if stage == self._stage:
            return
        self._stage = stage
        if stage[0]:
            self._since = self.loop.time()
        if self._overdue is not None:
            self._overdue.cancel()
        self._overdue = self.loop.call_later(HEAD if stage[0] else WHOLE, self._end)

    def _make_room(self) -> None:
        """End the connection that has waited longest; where all are being answered, uvicorn answers this one 503."""
        others = [other for other in self.connections if isinstance(other, Connection) and other is not self]
        waiting = [(since, id(other), other) for other in others if (since := other.waits_since) is not None]
        if waiting:
            min(waiting)[2]._end()  # noqa: SLF001 (another of this kind)

    def _end(self) -> None:
        self.connections.discard(self)  # at once, or many newcomers would end one and the same
        self.transport.abort()
