"""Random event streams for property tests, and places to cut them at."""

import itertools

from hypothesis import strategies as st

from tests.unit.house import SECRET

ENDS = ("\n", "\r", "\r\n")
NOTE = '{"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%s"}}'
_DATA = [
    NOTE % "é𝔘", NOTE % SECRET, NOTE % f"\\u0041{SECRET[1:]}", NOTE % "x" + " " * 30,
    f'{{"jsonrpc":"2.0","id":1,"result":{{"content":[{{"type":"text","text":"{SECRET}"}}]}}}}',
    '{"jsonrpc":"2.0","id":7,"method":"ping"}', "", "{}", f'{{"jsonrpc":"2.0","id":1,"result":{{"{SECRET}":1}}}}',
]  # fmt: skip
_LINES = [
    ": comment", f": {SECRET}", ":", "id: 7", "id", "id: a b", "retry: 10", "retry: x", "event: message", "event:",
    "event: endpoint", f"note: {SECRET}", "data", "data: [", "\ufeffdata: {}", "", "\x00", f"id: {SECRET}",
]  # fmt: skip


@st.composite
def events(draw: st.DrawFn) -> list[str]:
    """The lines of one event that may be understood: its data on one line or two, among other lines."""
    data = draw(st.sampled_from(_DATA))
    at = data.find('"params"')
    lines = [f"data: {data[:at]}", f"data:{data[at:]}"] if at > 0 and draw(st.booleans()) else [f"data: {data}"]
    plain = st.sampled_from(["id: 7", "retry: 10", "event: message", ": comment", "note: x"])
    return [*draw(st.lists(plain, max_size=2)), *lines, ""]


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream of events, sometimes with odd lines among them, with any mixture of line ends."""
    odd = st.sampled_from(_LINES).map(lambda line: [line])
    lines = itertools.chain.from_iterable(draw(st.lists(events() | events() | odd, max_size=8)))
    ends = st.sampled_from(ENDS) if draw(st.booleans()) else st.just(draw(st.sampled_from(ENDS)))
    bom = draw(st.sampled_from(["", "", "\ufeff"]))
    rest = draw(st.sampled_from([b"", b"", b"data: \xff\n\n", b"data: {"]))
    return (bom + "".join(line + draw(ends) for line in lines)).encode() + rest


CUTS = st.lists(st.integers(0, 400), max_size=12)


def cut(stream: bytes, cuts: list[int]) -> list[bytes]:
    """The stream in chunks, none of them empty: mitmproxy gives an empty one only at the end."""
    at = sorted({0, *(place for place in cuts if place < len(stream)), len(stream)})
    return [stream[start:end] for start, end in itertools.pairwise(at)]
