"""A chain that anything at all is led through, as mitmproxy would; what must hold of every passage is asserted."""

import asyncio
import json
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, cast
from unittest.mock import patch

from mcp_sod.wire.mcp import Call
from mitmproxy import http
from mitmproxy.test import tflow

from tests.unit.house import House
from tests.unit.making import body_of
from tests.unit.test_chain import Chain

type Fields = tuple[tuple[bytes, bytes], ...]
type Masks = Callable[[bytes], list[bytes]]

DENYING: Final = [{"id": "key", "detect": ["key"], "action": "deny"}]  # rules: a held call would take its time
JSON_TYPE: Final[Fields] = ((b"content-type", b"application/json"),)
SSE_TYPE: Final[Fields] = ((b"content-type", b"text/event-stream"),)
CALL: Final = body_of("tools/call", {"name": "query", "arguments": {"sql": "select 1"}})
_SECRET: Final = re.compile(r"\bAKIA[A-Z2-7]{16}\b", re.ASCII)  # the house's detector
_WRITTEN: Final = re.compile(rb"\bAKIA[A-Z2-7]{16}\b(?!\\)")  # what follows a backslash may be the escape of a letter
_REFUSAL: Final = re.compile(rb'"isError":true|"error":')


def leaks(out: bytes) -> bool:
    """Whether something is written in it, without escapes, that the house's detector finds."""
    return _WRITTEN.search(out) is not None


def tells(text: str) -> bool:
    """Whether the house's detector finds something in a decoded text."""
    return _SECRET.search(text) is not None


@contextmanager
def patience() -> Iterator[None]:
    """Lets masks and rules take longer than 0.1 s: collecting the garbage of tests alone takes that."""
    with patch("mcp_sod.masking.message.BUDGET", 60), patch("mcp_sod.risk.rules.BUDGET", 60):
        yield


class Passing:
    """The chain of a house, with a loop of its own; every request has the same good token."""

    def __init__(self, house: House) -> None:
        self._runner = asyncio.Runner()
        self._runner.run(house.revocations.look())
        self._chain = Chain(house)
        self._token = house.token("alice", "users").encode()
        self._records = house.journal.records

    def close(self) -> None:
        """Ends the house and the loop."""
        self._runner.run(self._chain.house.end())
        self._runner.close()

    def flow(
        self, body: bytes = CALL, fields: Fields = JSON_TYPE, method: str = "POST", path: str = "/mcp"
    ) -> http.HTTPFlow:
        """A request with this body and these headers, behind a host and a token."""
        flow = tflow.tflow()
        flow.request = http.Request.make(method, "http://127.0.0.1:9000/mcp", body)
        flow.request.path = path
        flow.request.headers.fields = (
            (b"host", b"127.0.0.1:9000"), (b"authorization", b"Bearer " + self._token), *fields
        )  # fmt: skip
        return flow

    def call(self, flow: http.HTTPFlow) -> Call | None:
        """What the chain reads the request as."""
        return self._chain.gate.exchange(flow).call

    def asked(self, flow: http.HTTPFlow) -> bool:
        """Whether the request leaves. If not, the refusal is answered, and on record as no failure of ours."""
        self._records.clear()
        if self._runner.run(self._chain.ask(flow)):
            self._on_record_once("forwarded")
            return True
        self._refused(flow)
        return False

    def read(self, flow: http.HTTPFlow) -> Call | str:
        """The call that the first stage makes of the request, or why it refuses to."""
        self._records.clear()
        self._chain.gate.requestheaders(flow)
        self._runner.run(self._intake(flow))
        if self._chain.gate.passage(flow).answer is None:
            call = self.call(flow)
            assert call is not None
            return call
        self._refused(flow)
        return str(self._records[0]["reason"])

    def answered(self, flow: http.HTTPFlow, chunks: Sequence[bytes], fields: Fields, status: int = 200) -> bytes:
        """All that the client gets of a reply that comes in these chunks; its outcome is on record, once."""
        self._records.clear()
        reply = self._runner.run(self._reply(flow, chunks, fields, status))
        self._on_record_once("replied", "withheld", "denied")  # the last where a mask would take too long
        return reply

    def masks(self) -> Masks:
        """The function that the chunks of a new event stream go through."""
        flow = self.flow()
        assert self.asked(flow), self._records
        self._runner.run(self._head(flow, SSE_TYPE, 200))
        assert flow.response
        return cast("Masks", flow.response.stream)

    async def _intake(self, flow: http.HTTPFlow) -> None:
        metadata, intake = self._chain.stages[:2]
        assert intake.name == "sod-intake"
        for stage in (metadata, intake):
            await stage.request(flow)  # type: ignore[attr-defined]

    async def _reply(self, flow: http.HTTPFlow, chunks: Sequence[bytes], fields: Fields, status: int) -> bytes:
        await self._head(flow, fields, status)
        assert flow.response is not None
        head, out = str(flow.response.headers.fields).encode(), b""
        if callable(flow.response.stream):
            out = through(cast("Masks", flow.response.stream), [*chunks, b""])
            await self._each("response", flow)
            return head + out
        flow.response.raw_content = b"".join(chunks)
        await self._each("response", flow)
        return str(flow.response.headers.fields).encode() + (flow.response.raw_content or b"")

    async def _head(self, flow: http.HTTPFlow, fields: Fields, status: int) -> None:
        flow.response = http.Response.make(status, b"")
        flow.response.headers.fields = fields
        await self._each("responseheaders", flow)

    async def _each(self, hook: str, flow: http.HTTPFlow) -> None:
        for stage in self._chain.stages:
            if hasattr(stage, hook):
                await getattr(stage, hook)(flow)
        passed = getattr(self._chain.gate, hook)(flow)
        if passed is not None:
            await passed

    def _refused(self, flow: http.HTTPFlow) -> None:
        assert flow.response is not None
        assert flow.response.status_code >= 400 or _REFUSAL.search(flow.response.raw_content or b"")
        self._on_record_once("denied", "rejected")

    def _on_record_once(self, *events: str) -> None:
        for record in self._records:
            assert "The gateway failed" not in str(record.get("reason")), record
            assert not leaks(json.dumps(record).encode()), record
        found = [record["event"] for record in self._records]
        assert found in [[event] for event in events], found


def through(masks: Masks, chunks: Sequence[bytes]) -> bytes:
    """What a stream's chunks come out as; none of them empty, for that would end the client's stream."""
    out: list[bytes] = []
    for chunk in chunks:
        delivered = masks(chunk)
        assert all(delivered), delivered
        out += delivered
    return b"".join(out)
