"""The bench: it sends what it says, believes no refusal, and sets each run against its control."""

import argparse
import asyncio
import json
import re
from collections.abc import AsyncIterator

import pytest

from tests.bench.figures import Outcome, report
from tests.bench.load import Figures, load
from tests.bench.tokens import TokenFigures, measure_tokens
from tests.bench.upstream import BODY, EVENTS, HEAD, STREAM, Answers
from tests.bench.workloads import DEFAULT, Workload
from tests.world.process import ROOT

OUTCOME = Outcome(
    "1 KB tools/call",
    {
        name: [Figures(rate, 2, 3) for rate in rates]
        for name, rates in {
            "direct": (1000, 1000, 1000),
            "stock reverse": (100, 200, 400),
            "chain reverse": (50, 200, 800),
            "stock regular": (100, 200, 400),
            "chain regular": (25, 50, 100),
        }.items()
    },
)


@pytest.mark.parametrize("word", [*DEFAULT, "64kb"])
def test_a_call_has_the_size_that_is_said(word: str) -> None:
    """A workload's body has its size to the byte, is JSON, and says how long it is."""
    workload = Workload.named(word)
    head, _, body = workload.request("/mcp", 9000, "t").partition(b"\r\n\r\n")
    assert len(body) == workload.size == 1024 * int(workload.title.partition(" ")[0])
    assert json.loads(body)["params"]["name"] == workload.tool
    assert f"Content-Length: {len(body)}".encode() in head


@pytest.mark.parametrize("word", ["", "KB", "0KB", "-1KB", "1.5KB", "1MB", "4096KB", "event"])
def test_what_is_no_size_is_refused(word: str) -> None:
    """A word that the bench would misread ends it before it starts."""
    assert Workload.named("2KB").size == 2048
    with pytest.raises(argparse.ArgumentTypeError, match="neither"):
        Workload.named(word)


class Refusing(Answers):
    """Answers as a gateway that refuses."""

    def data_received(self, data: bytes) -> None:
        """Refuses each request."""
        if data:
            body = BODY.replace(b'"isError": false', b'"isError":true')
            self._transport.write(HEAD.replace(str(len(BODY)).encode(), str(len(body)).encode()) + body)


@pytest.fixture
async def ports() -> AsyncIterator[dict[type[Answers], int]]:
    """Where the upstream listens, and one that refuses."""
    loop = asyncio.get_running_loop()
    servers = {kind: await loop.create_server(kind, "127.0.0.1", 0) for kind in (Answers, Refusing)}
    yield {kind: server.sockets[0].getsockname()[1] for kind, server in servers.items()}
    for server in servers.values():
        server.close()
        await server.wait_closed()  # with all its connections


@pytest.mark.parametrize("word", DEFAULT)
async def test_every_answer_is_read_to_its_end(ports: dict[type[Answers], int], word: str) -> None:
    """Bodies of any size and event streams alike, one after the other on each connection; a refusal ends the run."""
    port = ports[Answers]
    sent = Workload.named(word).request("/mcp", port, "t")
    assert len(await load(port, sent, connections=2, seconds=0.1)) > 10
    with pytest.raises(RuntimeError, match="not a good answer"):
        await load(ports[Refusing], sent, connections=2, seconds=0.1)


def test_the_stream_has_twenty_events() -> None:
    """What the upstream streams is as long as the workload's title says, and the last event is the answer."""
    assert len(EVENTS) == int(re.findall(r"\d+", Workload.named("events").title)[1])
    assert STREAM.count(b"data: ") == len(EVENTS)
    assert BODY in EVENTS[-1]


def test_ratios_are_of_runs_that_were_next_to_each_other() -> None:
    """The ratio is the median of the rounds' own ratios, each over its own control; the spread is beside it."""
    assert OUTCOME.ratios("reverse") == [0.5, 1, 2]
    assert OUTCOME.medians["chain reverse"] == Figures(200, 2, 3)
    assert "chain / stock, reverse: 1.00 (rounds 0.50 to 2.00)" in OUTCOME.table(8)
    assert "chain / stock, regular: 0.25 (rounds 0.25 to 0.25)" in OUTCOME.table(8)


def test_the_report_for_programs() -> None:
    """JSON has the first workload's figures at its top, and those of each by its title."""
    found = json.loads(json.dumps(report([OUTCOME, Outcome("x", OUTCOME.rounds)], TokenFigures(200.0, 4.0, 250.0))))
    assert found["ratio"] == {"reverse": 1, "regular": 0.25}
    assert found["medians"]["direct"] == {"rate": 1000, "p50": 2, "p99": 3}
    assert found["workloads"].keys() == {"1 KB tools/call", "x"}
    assert found["workloads"]["x"] == {"medians": found["medians"], "ratio": found["ratio"]}


def test_the_readme_quotes_what_it_prints() -> None:
    """The table in the README has the lines of this table, figures apart."""
    quoted = re.search(r"```\n(1 KB tools/call.*?)\n```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert quoted
    shapes = [
        [re.sub(r"\d[\d.,-]*", "#", " ".join(line.split())) for line in text.splitlines()[1:]]
        for text in (quoted[1], OUTCOME.table(8))
    ]
    assert shapes[0] == shapes[1]


def test_a_token_seen_before_costs_next_to_nothing() -> None:
    """A known token costs under 50 µs, its control, a new one, several times that; a proof is checked each time."""
    found = measure_tokens()
    assert found.seen < 50
    assert found.new > 4 * found.seen
    assert found.proven > 4 * found.seen
