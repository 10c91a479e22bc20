"""A hostile upstream: whatever it answers, the client gets a masked reply or a refusal, never a raw byte."""

import base64
import gzip
import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.world.echo import JSON_TYPE, SSE_TYPE, Reply
from tests.world.scene import GOOD, GOOD_BODY, GOOD_EVENTS, MASKED, SECRET, STEWARD, Scene, passed

HTML_TYPE = ("Content-Type", "text/html")
LIMIT = 64 * 1024


def message(result: Any, **envelope: Any) -> bytes:
    """A JSON-RPC answer to request 1, with this in the place of its result."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result, **envelope}).encode()


def text(value: str) -> dict[str, Any]:
    """A tool's result of one text."""
    return {"content": [{"type": "text", "text": value}]}


def event(data: bytes, *more: str) -> bytes:
    """One server-sent event."""
    return "".join(f"{line}\n" for line in more).encode() + b"data: " + data + b"\n\n"


def raw(head: str, body: bytes = b"") -> Reply:
    """A reply written by hand."""
    return Reply((head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + body,))


ERROR_WITH_ID = {"jsonrpc": "2.0", "id": "server-error", "error": {"code": -1, "message": f"no {SECRET}"}}
KEY_RESULT = {"structuredContent": {SECRET: 1}, "content": []}
PROGRESS = json.dumps({
    "jsonrpc": "2.0", "method": "notifications/progress",
    "params": {"progressToken": 1, "progress": 1, "message": f"at {SECRET}"},
}).encode()  # fmt: skip

# What is understood is masked and delivered.
MASKED_REPLIES: dict[str, Reply] = {
    "json": GOOD,
    "events": GOOD_EVENTS,
    "json in chunks": Reply.chunked([GOOD_BODY[:40], GOOD_BODY[40:]], headers=[JSON_TYPE]),
    "content and structuredContent": Reply.whole(message(text(SECRET) | {"structuredContent": {"key": SECRET}})),
    "JSON inside a text": Reply.whole(message(text(json.dumps({"a": [SECRET]})))),
    "escaped characters": Reply.whole(message(text(SECRET)).replace(b"AKIA", rb"\u0041KIA")),
    "an error's message": Reply.whole(json.dumps(ERROR_WITH_ID | {"id": 1}).encode()),
    "an error with an HTTP status": Reply.whole(json.dumps(ERROR_WITH_ID | {"id": 1}).encode(), status=400),
    "a resource's blob": Reply.whole(
        message({"content": [{"type": "resource", "resource": {"blob": base64.b64encode(SECRET.encode()).decode()}}]})
    ),
    "a progress message in a stream": Reply.chunked([event(PROGRESS), event(GOOD_BODY)]),
    "an event cut anywhere": Reply.chunked([bytes([one]) for one in event(GOOD_BODY)]),
    "data over several lines": Reply.chunked([b"data: " + GOOD_BODY.replace(b'"text":', b'\ndata: "text":') + b"\n\n"]),
    "a secret in a header": Reply.whole(GOOD_BODY, headers=[JSON_TYPE, ("X-Note", SECRET), ("Set-Cookie", SECRET)]),
    "a secret in a comment": Reply.chunked([f": {SECRET}\n\n".encode(), event(GOOD_BODY)]),
    "a secret in an unknown field": Reply.chunked([event(GOOD_BODY, f"note: {SECRET}")]),
    "a secret in the reason phrase": raw(
        f"HTTP/1.1 200 {SECRET}\nContent-Type: application/json\nContent-Length: {len(GOOD_BODY)}", GOOD_BODY
    ),
}

# What is not, is withheld, and its record says so.
WITHHELD_REPLIES: dict[str, Reply] = {
    "a content type that lies": Reply.whole(GOOD_BODY, headers=[HTML_TYPE]),
    "no content type": Reply.whole(GOOD_BODY, headers=[]),
    "two content types": Reply.whole(GOOD_BODY, headers=[JSON_TYPE, SSE_TYPE]),
    "events that are said to be JSON": Reply.whole(event(GOOD_BODY)),
    "gzip, not asked for": Reply.whole(gzip.compress(GOOD_BODY), headers=[JSON_TYPE, ("Content-Encoding", "gzip")]),
    "gzip that is none": Reply.whole(GOOD_BODY, headers=[JSON_TYPE, ("Content-Encoding", "gzip")]),
    "gzip'ed events": Reply.chunked([gzip.compress(GOOD_BODY)], headers=[SSE_TYPE, ("Content-Encoding", "gzip")]),
    "not JSON": Reply.whole(f"oops {SECRET}".encode()),
    "JSON and more": Reply.whole(GOOD_BODY + b" {}"),
    "a list": Reply.whole(b"[" + GOOD_BODY + b"]"),
    "the same key twice": Reply.whole(GOOD_BODY.replace(b'"id":1', b'"id":1,"id":1')),
    "NaN": Reply.whole(message(text(SECRET) | {"structuredContent": {"a": float("nan")}})),
    "a lone surrogate": Reply.whole(message(text("\ud800" + SECRET))),
    "a byte-order mark": Reply.whole(b"\xef\xbb\xbf" + GOOD_BODY),
    "UTF-16": Reply.whole(GOOD_BODY.decode().encode("utf-16")),
    "an answer to another request": Reply.whole(message(text(SECRET), id=2)),
    "an answer to the text of the id": Reply.whole(message(text(SECRET), id="1")),
    "neither result nor error": Reply.whole(json.dumps({"jsonrpc": "2.0", "id": 1, "note": SECRET}).encode()),
    "a request instead of an answer": Reply.whole(
        json.dumps({"jsonrpc": "2.0", "id": 1, "method": SECRET, "params": {}}).encode()
    ),
    "a key that is a secret": Reply.whole(message(KEY_RESULT)),
    "an image": Reply.whole(message({"content": [{"type": "image", "data": "AAAA", "mimeType": "image/png"}]})),
    "a cursor that is a secret": Reply.whole(message({"tools": [], "nextCursor": SECRET})),
    "a header that is a secret": Reply.whole(GOOD_BODY, headers=[JSON_TYPE, ("Retry-After", SECRET)]),
    "events with a header that is a secret": Reply.chunked(
        [event(GOOD_BODY)], headers=[SSE_TYPE, ("Retry-After", SECRET)]
    ),
    "an empty reply with a header that is a secret": Reply.whole(b"", headers=[("Retry-After", SECRET)], status=202),
    "an error page": Reply.whole(f"<p>{SECRET}</p>".encode(), status=500, headers=[HTML_TYPE]),
    "an error to nobody": Reply.whole(json.dumps(ERROR_WITH_ID).encode(), status=404),
    "a switch of protocols": raw("HTTP/1.1 101 Switching\nConnection: Upgrade\nUpgrade: websocket", SECRET.encode()),
    "an event that is not JSON": Reply.chunked([f"data: oops {SECRET}\n\n".encode()]),
    "an event of an unknown type": Reply.chunked([event(GOOD_BODY, "event: note")]),
    "an event type that is a secret": Reply.chunked([event(GOOD_BODY, f"event: {SECRET}")]),
    "an event id with spaces": Reply.chunked([event(GOOD_BODY, f"id: my {SECRET}")]),
    "an event for another request": Reply.chunked([event(message(text(SECRET), id=2))]),
    "an event with a key that is a secret": Reply.chunked([event(message(KEY_RESULT))]),
    "an event that is too long": Reply.chunked([b"data: " + SECRET.encode() * 4000]),
}

# What breaks off is not an answer: the client sees an error, or the masked part, and the record says that it broke.
BROKEN_REPLIES: dict[str, Reply] = {
    "larger than the limit": Reply.whole(message(text(SECRET * 4000))),
    "in chunks, larger than the limit": Reply.chunked([message(text(SECRET * 4000))], headers=[JSON_TYPE]),
    "cut in the middle of JSON": raw(
        f"HTTP/1.1 200 OK\nContent-Type: application/json\nContent-Length: {len(GOOD_BODY) + 9}", GOOD_BODY
    ),
    "cut in the middle of a chunk": raw(
        "HTTP/1.1 200 OK\nContent-Type: application/json\nTransfer-Encoding: chunked", b"ff\r\n" + GOOD_BODY
    ),
    "cut in the middle of an event": raw(
        "HTTP/1.1 200 OK\nContent-Type: text/event-stream\nTransfer-Encoding: chunked", b"ff\r\ndata: " + GOOD_BODY
    ),
    "a chunk size that is none": raw(
        "HTTP/1.1 200 OK\nContent-Type: application/json\nTransfer-Encoding: chunked", b"zz\r\n" + GOOD_BODY
    ),
    "trailers": raw(
        "HTTP/1.1 200 OK\nContent-Type: application/json\nTransfer-Encoding: chunked",
        b"%x\r\n%b\r\n0\r\nX-Note: %b\r\n\r\n" % (len(GOOD_BODY), GOOD_BODY, SECRET.encode()),
    ),
    "no HTTP": raw(SECRET),
    "a head without end": Reply((b"HTTP/1.1 200 OK\r\nX-Note: " + SECRET.encode(),)),
    "nothing at all": Reply(()),
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that reads no more than 64 KiB."""
    with Scene(tmp_path_factory.mktemp("replies"), limits={"body": "64KiB"}) as running:
        yield running


def all_of(reply: httpx.Response) -> str:
    """Everything that the client got."""
    return f"{reply.status_code} {reply.reason_phrase} {reply.headers} {reply.text}"


@pytest.mark.parametrize("name", MASKED_REPLIES)
def test_what_is_understood_is_masked(scene: Scene, name: str) -> None:
    """A reply that is understood arrives with every secret in it masked, wherever it stands, and so is its record."""
    seen = scene.watch()
    reply = scene.call(reply=MASKED_REPLIES[name])
    shown = all_of(reply).replace(base64.b64encode(MASKED.encode()).decode(), MASKED)
    assert MASKED in shown
    assert SECRET not in shown
    assert SECRET not in json.dumps(seen.records)
    assert seen.record(event="replied", code=None)["masked"]


@pytest.mark.parametrize("name", WITHHELD_REPLIES)
def test_what_is_not_understood_is_withheld(scene: Scene, name: str) -> None:
    """A reply that cannot be understood is not delivered, nor any part of it, and that is on record."""
    seen = scene.watch()
    reply = scene.call(reply=WITHHELD_REPLIES[name])
    assert "withheld" in reply.text
    assert SECRET not in all_of(reply)
    assert "AAAA" not in reply.text
    assert SECRET not in json.dumps(seen.records)
    assert seen.record(code="withheld")["event"] in ("withheld", "replied")


@pytest.mark.parametrize("name", BROKEN_REPLIES)
def test_what_breaks_off_is_not_delivered(scene: Scene, name: str) -> None:
    """Of a reply that breaks off nothing raw is delivered, and that it broke is on record."""
    seen = scene.watch()
    try:
        reply = scene.call(reply=BROKEN_REPLIES[name], patience=2)
    except httpx.TransportError:
        pass
    else:
        assert SECRET not in all_of(reply)
        assert "AKIA" not in all_of(reply)
    assert SECRET not in json.dumps(seen.records)
    assert seen.record(event="replied", code="broken")
    assert passed(scene.call())


def test_a_stream_that_turns_to_garbage_ends_there(scene: Scene) -> None:
    """What came before in a stream was masked and delivered; from what is not understood on, nothing is."""
    seen = scene.watch()
    garbage = Reply.chunked([event(PROGRESS), f"data: oops {SECRET}\n\n".encode(), event(GOOD_BODY)])
    reply = scene.call(reply=garbage)
    assert MASKED in reply.text
    assert "oops" not in reply.text
    assert SECRET not in reply.text
    assert reply.text.count("data: ") == 2  # the progress, and the sentence that says why it ends
    assert seen.record(event="replied", code="withheld")


@pytest.mark.parametrize("reply", [GOOD, GOOD_EVENTS], ids=["json", "events"])
def test_a_raw_viewer_gets_it_raw(scene: Scene, reply: Reply) -> None:
    """The control for every mask: whose role needs raw values gets them, while the record keeps them masked."""
    seen = scene.watch()
    assert SECRET in scene.call(reply=reply, groups=STEWARD).text
    assert SECRET not in json.dumps(seen.records)


@pytest.mark.parametrize("name", WITHHELD_REPLIES)
def test_a_raw_viewer_is_told_apart_by_role_alone(scene: Scene, name: str) -> None:
    """What is withheld because it is not understood is withheld from a raw viewer, too."""
    reply = scene.call(reply=WITHHELD_REPLIES[name], groups=STEWARD)
    only_sensitive = name == "an image" or ("that is a secret" in name and "event type" not in name)
    assert ("withheld" in reply.text) == (not only_sensitive)
