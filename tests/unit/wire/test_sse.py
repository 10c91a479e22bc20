"""Server-sent events."""

import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.errors import Withheld
from mcp_sod.wire.sse import Event, Events

ENDS = ("\n", "\r", "\r\n")


def read(chunks: list[bytes], limit: int = 1000) -> tuple[list[Event | None], bool]:
    """The events of a stream that comes in these chunks, and whether it was refused after them."""
    events, found = Events(limit), []
    try:
        for chunk in chunks:
            for event in events.feed(chunk):
                found.append(event)  # noqa: PERF402 (what came before an error counts, and `extend` would drop it)
    except Withheld:
        return found, True
    return found, False


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream of fields, comments, blank and odd lines, with any mixture of line ends."""
    line = st.sampled_from([
        "data: {}", "data:x", "data", "data:  two", "data: é𝔘", ": comment", ":", "id: 7", "id", "retry: 10",
        "retry: x", "event: message", "event:", "unknown: x", "", "", "", "\ufeffdata: x", "data: " + "x" * 30,
    ])  # fmt: skip
    lines = draw(st.lists(line, max_size=20))
    bom = draw(st.sampled_from(["", "\ufeff"]))
    return (bom + "".join(text + draw(st.sampled_from(ENDS)) for text in lines)).encode()


@given(streams(), st.lists(st.integers(0, 400), max_size=12), st.sampled_from([40, 1000]))
def test_where_a_stream_is_cut_does_not_matter(stream: bytes, cuts: list[int], limit: int) -> None:
    """Cut anywhere, inside a character or a CRLF too, a stream gives the events that it gives as a whole."""
    at = sorted({0, *cuts, len(stream)})
    chunks = [b"", *(stream[start:end] for start, end in itertools.pairwise(at)), b""]
    chunks = [piece for chunk in chunks for piece in (chunk, b"")]
    assert b"".join(chunks) == stream
    assert read(chunks, limit) == read([stream], limit)


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_no_two_cuts_matter(end: str) -> None:
    """A short stream, cut at every two places there are, gives the events that it gives as a whole."""
    stream = end.join(["\ufeffid: 1", ": c", "data: é", "data", "", ": c", "", "data:x", "", "", "retry: 1"]).encode()
    whole = read([stream])
    assert [event.data for event in whole[0] if event] == ["é\n", "x"]
    for one, two in itertools.combinations(range(len(stream) + 1), 2):
        assert read([stream[:one], stream[one:two], stream[two:]]) == whole, (one, two)


def by_the_book(stream: bytes) -> list[str]:
    """The data of a whole stream's events, read line by line as WHATWG HTML, section 9.2.6, has it."""
    found: list[str] = []
    lines: list[str] = []
    for line in re.split(r"\r\n|\n|\r", stream.decode("utf-8-sig"))[:-1]:
        if line == "" and lines:
            found.append("".join(f"{text}\n" for text in lines).removesuffix("\n"))
            lines = []
        name, _, value = line.partition(":")
        if name == "data":
            lines.append(value.removeprefix(" "))
    return found


@given(streams(), st.lists(st.integers(0, 400), max_size=6))
def test_a_client_would_read_the_same(stream: bytes, cuts: list[int]) -> None:
    """The events hold the data that a client would read from the stream, and written anew they hold it still."""
    at = sorted({0, *cuts, len(stream)})
    events, refused = read([stream[start:end] for start, end in itertools.pairwise(at)])
    assert not refused
    said = [event for event in events if event is not None]
    assert [event.data for event in said if event.data is not None] == by_the_book(stream)
    assert by_the_book(b"".join(event.encode() for event in said)) == by_the_book(stream)


@pytest.mark.parametrize("end", ENDS, ids=repr)
def test_every_line_end_ends_a_line(end: str) -> None:
    """LF, CR and CRLF alike; a byte-order mark at the very beginning is no part of the first line."""
    stream = end.join(["\ufeffid: 1", "data: a", "data: b", "", "data:c", "", ""]).encode()
    assert read([stream]) == ([Event("a\nb", "1"), Event("c")], False)
    assert read([stream[at : at + 1] for at in range(len(stream))]) == ([Event("a\nb", "1"), Event("c")], False)


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: x\n\n", [Event("x")]),
        (b"data:x\n\n", [Event("x")]),
        (b"data:  x\n\n", [Event(" x")]),
        (b"data\n\n", [Event("")]),
        (b"data: x", []),
        (b"data: x\n", []),
        (b": secret\n\n", [None]),
        (b": secret\ndata: x\n\n", [Event("x")]),
        (b"secret: x\n\n", [None]),
        (b"Data: x\n\n", [None]),
        (b"event: message\ndata: x\n\n", [Event("x", kind="message")]),
        (b"event:\ndata: x\n\n", [Event("x")]),
        (b"id: a-1\n\n", [Event(None, "a-1")]),
        (b"id\ndata: x\n\n", [Event("x", "")]),
        (b"retry: 500\n\n", [Event(None, None, "500")]),
        (b"retry: 5s\n\n", [None]),
        (b"retry: 5000000000\ndata: x\n\n", [Event("x")]),
        ("retry: \u0665\n\n".encode(), [None]),
        (b"id: 1\nid: 2\ndata: x\n\n", [Event("x", "2")]),
        (b"\n\n\n", []),
        (b"data: x\n\xef\xbb\xbfdata: y\n\n", [Event("x")]),
    ],
)  # fmt: skip
def test_what_an_event_is(stream: bytes, events: list[Event | None]) -> None:
    """Fields that MCP uses are kept; comments and unknown fields, which masks do not see, are dropped."""
    assert read([stream]) == (events, False)


@pytest.mark.parametrize(
    ("bad", "good"),
    [
        (b"event: a secret\ndata: x\n\n", b"event: response.output_text.delta\ndata: x\n\n"),
        (b"event: Message\ndata: x\n\n", b"event:message\ndata: x\n\n"),
        (b"data: \xff\n\n", b"data: \xc3\xbf\n\n"),
        (b"id: a b\ndata: x\n\n", b"id: a-b\ndata: x\n\n"),
        (b"id: a\x00\ndata: x\n\n", b"id: a0\ndata: x\n\n"),
        ("id: é\ndata: x\n\n".encode(), b"id: e\ndata: x\n\n"),
        (b"id: " + b"1" * 513 + b"\ndata: x\n\n", b"id: " + b"1" * 512 + b"\ndata: x\n\n"),
        (b"data: " + b"x" * 995 + b"\n\n", b"data: " + b"x" * 994 + b"\n\n"),
        (b"data: x\n" * 200 + b"\n", b"data: x\n\n" * 200),
        (b"x" * 1001, b"x" * 1000),
        (b"data: x\n\n" + b"x" * 1001, b"data: x\n\n" + b"x" * 1000),
    ],
    ids=[
        "type",
        "type's case",
        "utf-8",
        "blank id",
        "nul id",
        "odd id",
        "long id",
        "line",
        "lines",
        "tail",
        "later tail",
    ],
)
def test_what_is_not_mcps_is_refused(bad: bytes, good: bytes) -> None:
    """Other event types, ids that are not plain, other charsets and events beyond the limit end the stream."""
    assert read([good])[1] is False
    assert read([bad])[1] is True


def test_what_came_before_a_refusal_is_given() -> None:
    """Events before the bad one are delivered, nothing after it is."""
    assert read([b"data: a\n\ndata: b\n\nevent: X Y\n\ndata: c\n\n"]) == ([Event("a"), Event("b")], True)


ODD = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"


def test_what_other_readers_take_for_line_ends_is_escaped() -> None:
    """A client that splits at them would read a field of the server's making; inside JSON the escape means the same."""
    written = Event(json.dumps({"a": ODD}, ensure_ascii=False), kind="message").encode().decode()
    assert written.splitlines() == written.split("\n")[:-1]
    assert json.loads(written.split("\n")[1].removeprefix("data: ")) == {"a": ODD}


@given(
    st.none() | st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r" + ODD), min_size=1),
    st.none() | st.from_regex(r"[!-~]{0,20}", fullmatch=True),
    st.none() | st.from_regex(r"[0-9]{1,9}", fullmatch=True),
)
def test_an_event_is_written_as_it_is_read(data: str | None, event_id: str | None, retry: str | None) -> None:
    """Reading what was written gives the event again, and it is one event."""
    event = Event(data, event_id, retry)
    if data is None and not event_id and retry is None:
        return
    assert read([event.encode()], 10_000) == ([event], False)
