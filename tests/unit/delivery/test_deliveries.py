"""Parcels from the call to the collector, on record before anyone can act on it."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from mcp_sod.database import Database
from mcp_sod.delivery.deliveries import Deliveries
from mcp_sod.delivery.shelf import Shelf
from mcp_sod.errors import AuditError, Conflict, Denied, TicketError, Unavailable, Withheld
from mcp_sod.exchange import Exchange
from mcp_sod.wire.receipts import Handed, Receipt

from tests.unit.delivery.making import NOW, collector_of
from tests.unit.making import Memory, exchange_of, policy_of, principal_of, tool_call

BODY = b'{"result":{"secret":1}}'
ID = "r-0123456789abcdef"


class Office:
    """Deliveries with a clock of the test's."""

    def __init__(self, folder: Path) -> None:
        self.now = NOW
        self.over = False
        self.journal = Memory()
        self.database = Database(folder / "db.sqlite")
        self.policy = policy_of(folder)
        self.deliveries = self.opened()

    def opened(self) -> Deliveries:
        """Deliveries over the same database, as after a restart."""
        return Deliveries(self.database, self.journal, b"k" * 32, "gw-test", lambda: self.now)

    def exchange(self, receipt: str = ID) -> Exchange:
        """Alice's call."""
        exchange = exchange_of(self.policy, tool_call("export_all"), principal_of("alice"))
        exchange.recipient = Handed(Receipt(receipt, "viewer", NOW + 60), "s-1")
        return exchange

    async def expected(self, receipt: str = ID) -> None:
        """A call of alice's leaves."""
        await self.deliveries.expect(self.exchange(receipt), lambda: self.over)

    async def kept(self, receipt: str = ID) -> None:
        """And its result comes."""
        await self.expected(receipt)
        await self.deliveries.settle(receipt, BODY, asked_back=False)

    async def state(self) -> str | None:
        """The parcel's state."""
        found = await self.database.run(Shelf(self.database).get, ID)
        return found.state if found else None


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """An office of its own."""
    built = Office(tmp_path)
    yield built
    built.database.close()


async def test_a_result_is_collected_once(office: Office) -> None:
    """It is there once kept, on record with a digest before it is given out, and then gone."""
    await office.expected()
    with pytest.raises(TicketError, match="not come yet"):
        await office.deliveries.collect(ID, collector_of(), {})
    await office.deliveries.settle(ID, BODY, asked_back=False)
    parcel, body = await office.deliveries.collect(ID, collector_of(), {"ref": "x-2"}, upstream="tools")
    assert (parcel.account, body) == (principal_of("alice").account, BODY)
    (record,) = office.journal.records
    assert {
        "event": "delivered",
        "receipt": ID,
        "ref": "x-2",
        "bytes": len(BODY),
        "role": "viewer",
    }.items() <= record.items()
    with pytest.raises(TicketError, match="already"):
        await office.deliveries.collect(ID, collector_of("vito"), {})


async def test_room_is_kept_for_what_is_expected(office: Office) -> None:
    """As much as a message may hold, until it is known how much it is."""
    await office.expected()
    (expected,) = await office.database.run(Shelf(office.database).expected_by, "gw-test")
    assert expected.size == office.policy.gateway.limits.body
    await office.deliveries.settle(ID, BODY, asked_back=False)
    kept = await office.database.run(Shelf(office.database).get, ID)
    assert kept is not None
    assert kept.size == len(BODY)


@pytest.mark.parametrize(
    ("who", "upstream", "kind"),
    [("alice", None, Conflict), ("bob", None, Denied), ("vera", "other", TicketError), ("vera", "tools", None)],
)
async def test_who_may_not_gets_nothing(
    office: Office, who: str, upstream: str | None, kind: type[Exception] | None
) -> None:
    """A refusal leaves the parcel for whom it is."""
    await office.kept()
    collector = collector_of(who, "sender" if who == "bob" else "viewer")
    if kind is not None:
        with pytest.raises(kind):
            await office.deliveries.collect(ID, collector, {}, upstream=upstream)
    assert (await office.deliveries.collect(ID, collector_of(), {}, upstream="tools"))[1] == BODY


async def test_of_many_collectors_one_gets_it(office: Office) -> None:
    """However many ask at once."""
    await office.kept()
    asked = [office.deliveries.collect(ID, collector_of(f"v{number}"), {}) for number in range(20)]
    found = await asyncio.gather(*asked, return_exceptions=True)
    assert sum(not isinstance(one, BaseException) for one in found) == 1
    assert office.journal.events == ["delivered"]


async def test_without_a_record_nothing_is_given_out(office: Office) -> None:
    """When the delivery cannot be recorded, it does not happen, and can once records can be written."""
    await office.kept()
    office.journal.broken = True
    with pytest.raises(AuditError):
        await office.deliveries.collect(ID, collector_of(), {})
    assert await office.state() == "kept"
    office.journal.broken = False
    assert (await office.deliveries.collect(ID, collector_of(), {}))[1] == BODY


async def test_what_is_not_known_is_not_kept(office: Office) -> None:
    """A result under a receipt that nobody expects is withheld; so is one that comes too late."""
    with pytest.raises(Withheld, match="not known"):
        await office.deliveries.settle(ID, BODY, asked_back=False)
    await office.expected()
    office.now += 60
    with pytest.raises(Withheld, match="after the time"):
        await office.deliveries.settle(ID, BODY, asked_back=False)


async def test_a_question_ends_a_receipt_quietly(office: Office) -> None:
    """The call goes on under another one: nothing is lost, and nothing on record says so."""
    await office.expected()
    await office.deliveries.settle(ID, None, asked_back=True)
    assert (await office.state(), office.journal.events) == ("continued", [])


@pytest.mark.parametrize("over", [True, False])
async def test_a_call_that_ended_is_lost(office: Office, over: bool) -> None:
    """Whatever ended the call, its receipt's end is on record soon; one that goes on is left alone."""
    await office.expected()
    office.over = over
    await office.deliveries.look()
    assert (await office.state(), office.journal.events) == (("lost", ["lost"]) if over else ("expected", []))


async def test_calls_of_an_earlier_run_are_lost(office: Office) -> None:
    """After a restart no result comes for them; what was kept stays."""
    await office.kept("r-2")
    await office.expected()
    again = office.opened()
    await again.begin()
    assert await office.state() == "lost"
    assert (await again.collect("r-2", collector_of(), {}))[1] == BODY
    assert office.journal.events == ["lost", "delivered"]


async def test_time_runs_out_on_record(office: Office) -> None:
    """The record comes first: while none can be written, the parcel is merely not given out."""
    await office.kept()
    office.now += 60
    office.journal.broken = True
    with pytest.raises(AuditError):
        await office.deliveries.look()
    with pytest.raises(TicketError, match="is over"):
        await office.deliveries.collect(ID, collector_of(), {})
    office.journal.broken = False
    await office.deliveries.look()
    assert (await office.state(), office.journal.events) == ("expired", ["expired"])


async def test_a_refusal_is_on_record(office: Office) -> None:
    """Who wanted what and why not, whether there is such a parcel or not."""
    await office.kept()
    for receipt, known in ((ID, True), ("r-no", False)):
        await office.deliveries.refused(receipt, collector_of(), Denied("No."))
        record = office.journal.records[-1]
        assert (record["event"], record["code"], record.get("receipt")) == ("denied", "denied", ID if known else None)
        assert record["principal"]["subject"] == "vera"


async def test_too_much_is_refused(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender whose results nobody collects is told so."""
    monkeypatch.setattr("mcp_sod.delivery.shelf.MOST_WAITING", 1)
    await office.expected()
    with pytest.raises(Denied, match="Too many results wait"):
        await office.expected("r-2")
    await office.deliveries.settle(ID, None, asked_back=False)
    await office.expected("r-2")


async def test_a_closed_database_refuses(office: Office) -> None:
    """Nothing leaves without a row."""
    office.database.close()
    with pytest.raises(Unavailable):
        await office.expected()


async def test_lists_say_why_not(office: Office) -> None:
    """Each parcel of a list comes with the reason for which one may not collect it, or none."""
    await office.kept()
    ((parcel, refused),) = await office.deliveries.concerning(collector_of())
    assert (parcel.id, refused) == (ID, None)
    ((_, refused),) = await office.deliveries.concerning(dataclasses.replace(collector_of("alice"), roles=frozenset()))
    assert isinstance(refused, Conflict)
    assert await office.deliveries.concerning(collector_of("bob", "sender")) == []
