"""Streaming on the wire. There is no hook for it, so a method of mitmproxy's stream is wrapped."""

from collections.abc import Iterable
from typing import Protocol, runtime_checkable

from mitmproxy.proxy import commands, events, layer
from mitmproxy.proxy.layers.http import HttpStream, SendHttp, _events

LOOK = 0.5  # seconds between two looks whether there is something to say on a stream, or it is over


@runtime_checkable
class Delivered(Protocol):
    """A stream's function that is asked for more than chunks."""

    @property
    def over(self) -> bool:
        """Whether nothing more will come of it: the client's stream is ended then, and the upstream's let go."""

    @property
    def watched(self) -> bool:
        """Whether there may be something to say on it, or it may be over, between two chunks of the upstream's."""

    def aside(self) -> Iterable[bytes]:
        """Return what there is to say now."""


def look_after_streams() -> None:
    """Have mitmproxy end streams that are over, and say on them what the gateway has to say."""
    known = HttpStream._handle_event  # noqa: SLF001 (there is no hook for it)

    def handle_event(self: HttpStream, event: events.Event) -> layer.CommandGenerator[None]:
        begun = _streaming(self)
        if not isinstance(event, events.Wakeup):
            yield from known(self, event)
        stream = _streaming(self)
        if stream is None:
            return
        watch = stream.watched and (begun is None or isinstance(event, events.Wakeup))
        if watch:
            for chunk in stream.aside():
                yield SendHttp(_events.ResponseData(self.stream_id, chunk), self.context.client)
        if stream.over:
            # The upstream first: what it says from now on leads nowhere.
            problem = _events.RequestProtocolError(self.stream_id, "The reply is over.", _events.ErrorCode.CANCEL)
            yield SendHttp(problem, self.context.server)
            yield from self.send_response(already_streamed=True)
        elif watch:
            yield commands.RequestWakeup(LOOK)

    HttpStream._handle_event = handle_event  # type: ignore[method-assign]  # noqa: SLF001


def _streaming(stream: HttpStream) -> Delivered | None:
    """Return the function through which a reply is being streamed, if it is one of ours."""
    if stream.server_state != stream.state_stream_response_body:
        return None
    assert stream.flow.response is not None  # its head has come
    found: object = stream.flow.response.stream
    return found if isinstance(found, Delivered) else None
