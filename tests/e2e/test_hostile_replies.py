"""What an upstream puts on the wire, byte for byte: a client gets what is understood, masked, and nothing else."""

import json
from collections.abc import Iterator
from string import Template
from typing import Any, Literal

import httpx
import pytest
from pydantic import Field

from tests.unit.cases import Case, rows
from tests.world.echo import Reply
from tests.world.scene import GOOD_BODY, MASKED, SECRET, Scene, passed

NOTE = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"level": "info", "data": "begun"}}
NAMES = {
    "good": GOOD_BODY.decode(), "secret": SECRET, "length": str(len(GOOD_BODY)), "size": f"{len(GOOD_BODY):x}",
    "note": json.dumps(NOTE),
}  # fmt: skip


class ReplyCase(Case):
    """A good reply, changed in one way, and what must come of it."""

    before: str = ""
    line: str = "HTTP/1.1 200 OK"
    fields: list[str] = Field(default_factory=lambda: ["Content-Type: application/json"])
    body: str = "$good"
    chunks: list[str] = Field(default_factory=list)
    framed: str = ""
    after: str = ""
    outcome: Literal["masked", "withheld", "broken", "unanswered"]

    def reply(self) -> Reply:
        """What the upstream sends; each chunk goes out by itself."""
        body = _filled(self.body)
        chunks = [_filled(chunk) for chunk in self.chunks]
        framing = ["Transfer-Encoding: chunked"] if chunks else [f"Content-Length: {len(body)}"]
        fields = [*self.fields, *([] if self.framed else framing)]
        head = _filled("\r\n".join([self.line, *fields, "Connection: close", "", ""]))
        if self.framed:
            return Reply((_filled(self.before), head + _filled(self.framed)))
        if not chunks:
            return Reply((_filled(self.before), head + body + _filled(self.after)))
        parts = [b"%x\r\n%b\r\n" % (len(chunk), chunk) for chunk in chunks]
        return Reply((head, *(part for chunk in parts for part in (chunk, 0.02)), b"0\r\n\r\n"))


def _filled(text: str) -> bytes:
    return Template(text).substitute(NAMES).encode("latin-1")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that reads no more than 64 KiB."""
    with Scene(tmp_path_factory.mktemp("replies"), limits={"body": "64KiB"}) as running:
        yield running


@pytest.mark.parametrize(("policy", "case"), rows("gate", ReplyCase, "replies"))
def test_what_is_replied_and_what_comes_of_it(scene: Scene, policy: dict[str, Any], case: ReplyCase) -> None:
    """Each row of tests/cases/gate/replies: masked, withheld or broken off, on record, and nothing after it suffers."""
    assert not policy
    seen = scene.watch()
    try:
        reply = scene.call(reply=case.reply(), patience=3)
        got = f"{reply.status_code} {reply.reason_phrase} {reply.headers} {reply.text}"
    except httpx.TransportError:
        got = ""
    assert SECRET not in got
    assert "AKIA" not in got
    assert (MASKED in got) == (case.outcome == "masked")
    if case.outcome in ("masked", "unanswered"):
        assert bool(seen.record(event="replied", code=None)["masked"]) == (case.outcome == "masked")
        assert ("result" in got) == (case.outcome == "masked")
    else:
        assert seen.record(code=case.outcome)["event"] in ("withheld", "replied")
        assert ("withheld" in got) == (case.outcome == "withheld")
    assert SECRET not in json.dumps(seen.records)
    assert passed(scene.call())
