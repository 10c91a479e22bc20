"""The two stages, on a real chain without mitmdump around it."""

import json
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mcp_sod.separation.objects import concerned
from mitmproxy import flow as mitmproxy_flow
from mitmproxy import http

from tests.unit.house import house
from tests.unit.test_chain import Chain


@pytest.fixture
async def chain(tmp_path: Path) -> AsyncIterator[Chain]:
    """A chain whose rule is: who made it (`make`) may not pay it (`pay`)."""
    async with house(tmp_path) as built:
        yield Chain(built)


def made(**content: Any) -> bytes:
    """The reply to a `make`."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"structuredContent": content}}).encode()


async def over(chain: Chain, flow: http.HTTPFlow) -> None:
    """What the chain does last with each flow."""
    for stage in chain.stages:
        if hasattr(stage, "over"):
            await stage.over(flow)


def open_acts(chain: Chain) -> int:
    """How many acts wait for their result; a person of three keys has three rows each."""
    with chain.house.database.engine.connect() as connection:
        return int(connection.execute(sa.text("SELECT count(DISTINCT reference) FROM open_acts")).scalar_one())


async def test_who_made_it_does_not_pay_it(chain: Chain) -> None:
    """The reply settles what it made: the maker's payment is refused, on record, another payment of hers is not."""
    flow = chain.flow(tool="make")
    assert await chain.ask(flow)
    assert open_acts(chain) == 1
    assert b"7" in await chain.answer(flow, made(id=7))
    assert open_acts(chain) == 0
    assert not await chain.ask(chain.flow(tool="pay", id="7"))
    assert chain.house.journal.records[-1]["code"] == "separation"
    assert await chain.ask(chain.flow(tool="pay", id="8"))


async def test_what_is_refused_after_its_claim_made_nothing(chain: Chain) -> None:
    """While records cannot be kept calls are refused, and leave no act open that would refuse more later."""
    chain.house.trouble = "the bucket is gone"
    flow = chain.flow(tool="make")
    assert not await chain.ask(flow)
    assert open_acts(chain) == 1
    await over(chain, flow)
    assert open_acts(chain) == 0


@pytest.mark.parametrize(
    ("connected", "status", "answered", "left"),
    [(None, None, False, 0), (1.0, None, False, 1), (1.0, 200, False, 1), (1.0, 400, False, 1), (1.0, 200, True, 0)],
)
async def test_a_connection_that_ends(
    chain: Chain, connected: float | None, status: int | None, answered: bool, left: int
) -> None:
    """Nothing was made where nothing was sent; what was sent stays open, unless its answer has come."""
    flow = chain.flow(tool="make")
    assert await chain.ask(flow)
    flow.server_conn.timestamp_tcp_setup = connected
    if answered:
        on_result = chain.gate.exchange(flow).on_result
        assert on_result is not None
        on_result(json.loads(made(id=7)))
    if status:
        flow.response = http.Response.make(status)
    flow.error = mitmproxy_flow.Error("ended")
    await over(chain, flow)
    assert open_acts(chain) == left
    assert await chain.ask(chain.flow(tool="pay", id=9)) is (left == 0)


async def test_a_reply_that_cannot_be_remembered_is_withheld(chain: Chain, tmp_path: Path) -> None:
    """When the result cannot be written, nobody gets it, and the act stays open."""
    flow = chain.flow(tool="make")
    assert await chain.ask(flow)
    with closing(sqlite3.connect(tmp_path / "tickets.sqlite")) as database:
        database.execute("ALTER TABLE acts RENAME TO elsewhere")
    assert b'"id"' not in (await chain.answer(flow, made(id=7))).replace(b'"id": 1', b"").replace(b'"id":1', b"")
    assert chain.house.journal.records[-1]["code"] == "unavailable"
    assert open_acts(chain) == 1


async def test_a_reply_that_is_withheld_stays_open(chain: Chain) -> None:
    """What no client has got is remembered as open: its object is not known, but to its server."""
    flow = chain.flow(tool="make")
    assert await chain.ask(flow)
    assert b"withheld" in await chain.answer(flow, b"{broken")
    await over(chain, flow)
    assert open_acts(chain) == 1


async def test_only_what_a_rule_concerns_touches_the_database(chain: Chain) -> None:
    """Other calls go through with the database closed, at the price of a look into a cache."""
    chain.house.database.engine.dispose()
    statements: list[str] = []
    sa.event.listen(chain.house.database.engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    assert await chain.ask(chain.flow(tool="query", id=7))
    before = concerned.cache_info().misses
    assert await chain.ask(chain.flow(tool="query", id=8))
    assert statements == []
    assert concerned.cache_info().misses == before
    assert await chain.ask(chain.flow(tool="pay", id=7))
    assert statements
