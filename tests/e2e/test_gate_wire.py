"""What callers put on the wire, byte for byte: what is not one plain call for a listed upstream goes nowhere."""

import codecs
import gzip
import json
from collections.abc import Iterator
from string import Template
from typing import Any

import pytest
from pydantic import Field

from tests.unit.cases import Case, rows
from tests.world.client import LEGACY, call_body
from tests.world.scene import SECRET, Scene
from tests.world.wire import converse

TABLES = ("destination", "encoding", "framing", "headers", "message", "smuggling", "target")
FORWARDED = {
    b"host", b"content-type", b"content-length", b"accept", b"accept-encoding", b"mcp-protocol-version",
    b"mcp-method", b"mcp-name",
}  # fmt: skip


class WireCase(Case):
    """A good call, changed in one way or given whole as `raw`, and what must come of it.

    `framed` writes the body down in a way of its own ($body, and $size in hexadecimal); `after` follows right behind.
    """

    line: str = "POST $url HTTP/1.1"
    without: list[str] = Field(default_factory=list)
    with_: list[str] = Field(default_factory=list, alias="with")
    tool: str = "get_customer"
    body: str | None = None
    encode: str = "utf-8"
    pad: int = 0
    chunked: bool = False
    trailers: str = ""
    framed: str = ""
    after: str = ""
    tunnel: str = ""
    raw: list[str] = Field(default_factory=list)
    status: int
    says: str = ""
    arrives: int = 0
    record: list[str | None] = Field(default_factory=list, max_length=2)

    def parts(self, names: dict[str, str]) -> list[bytes]:
        """What is sent, one part after the other."""
        opening = f"CONNECT {self.tunnel} HTTP/1.1\r\nHost: {self.tunnel}\r\n\r\n" if self.tunnel else ""
        known = [_filled(part, names) for part in ([opening] if opening else [])]
        return [*known, *([_filled(part, names) for part in self.raw] or [self._request(names)])]

    def _request(self, names: dict[str, str]) -> bytes:
        body = self.sent_body()
        framing = {"transfer-encoding": "chunked"} if self.chunked else {"content-length": str(len(body))}
        fields = {
            "host": "$authority", "content-type": "application/json", "authorization": "Bearer $token",
            "accept": "application/json, text/event-stream", "mcp-protocol-version": LEGACY,
        } | framing  # fmt: skip
        kept = [f"{name}: {value}" for name, value in fields.items() if name not in self.without]
        head = "\r\n".join([self.line, *kept, *self.with_, "", ""])
        tail = f"0\r\n{self.trailers}\r\n\r\n" if self.trailers else "0\r\n\r\n"
        sent = b"%x\r\n%b\r\n%b" % (len(body), body, tail.encode()) if self.chunked else body
        names = names | {"length": str(len(body)), "size": f"{len(body):x}", "body": body.decode("latin-1")}
        sent = _filled(self.framed, names) if self.framed else sent
        return _filled(head, names) + sent + _filled(self.after, names)

    def sent_body(self) -> bytes:
        """The message itself, without what frames it."""
        text = self.body
        if text is None:
            text = json.dumps(call_body(self.tool, {"pad": " " * self.pad} if self.pad else {}, era=LEGACY))
        match self.encode:
            case "gzip":
                return gzip.compress(text.encode())
            case "hex":
                return text.encode().hex().encode()
            case "rot13":
                return codecs.encode(text, "rot13").encode()
            case encoding:
                return text.encode(encoding)


def _filled(text: str, names: dict[str, str]) -> bytes:
    return Template(text).safe_substitute(names).encode("latin-1")


def _plain(arrived: bytes, body: bytes) -> bool:
    """Whether this is the one form in which a call goes upstream, with this body."""
    head, _, rest = arrived.partition(b"\r\n\r\n")
    line, *fields = head.split(b"\r\n")
    names = [field.partition(b": ")[0].lower() for field in fields]
    length = b"content-length: %d" % len(body)
    framed = length in head.lower().split(b"\r\n") or (body == b"" and b"content-length" not in names)
    once = len(set(names)) == len(names) and set(names) <= FORWARDED and framed
    return line in {b"%s /mcp HTTP/1.1" % verb for verb in (b"POST", b"GET", b"DELETE")} and rest == body and once


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that takes no more than 64 KiB."""
    with Scene(tmp_path_factory.mktemp("wire"), limits={"body": "64KiB"}) as running:
        yield running


@pytest.mark.parametrize(("policy", "case"), rows("gate", WireCase, *TABLES))
def test_what_is_sent_and_what_comes_of_it(scene: Scene, policy: dict[str, Any], case: WireCase) -> None:
    """Each row of tests/cases/gate: what is refused goes nowhere and is on record; what is sound arrives, once."""
    assert not policy
    port = scene.echo.port
    names = {"url": scene.echo.url, "authority": f"127.0.0.1:{port}", "port": str(port), "token": scene.token()}
    seen = scene.watch()
    answer = converse(scene.gateway.port, case.parts(names), patience=1, answers=2 if case.after else 1)
    outcome = seen.record(event=case.record[0], code=case.record[1]) if case.record else None
    assert (answer.status, seen.connections, len(seen.arrived)) == (case.status, case.arrives, case.arrives), answer.raw
    assert all(_plain(one, case.sent_body()) for one in seen.arrived)
    assert case.says.encode() in answer.raw
    assert SECRET.encode() not in answer.raw
    assert outcome or seen.records == []
