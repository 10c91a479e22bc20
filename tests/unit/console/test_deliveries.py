"""The console's paths for collecting, asked as the command asks them."""

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from mcp_sod.console.api import build
from mcp_sod.wire.receipts import Handed, Receipt

from tests.unit.house import House, house
from tests.unit.making import exchange_of, principal_of, tool_call

BODY = b'{"result":{"n":1.10}}'
FAR = 2**40


class Office:
    """The console of a house in which alice's results are for viewers."""

    def __init__(self, house: House, http: httpx.AsyncClient) -> None:
        self.house = house
        self.http = http

    async def kept(self, receipt: str = "r-0123456789abcdef") -> str:
        """The receipt of a result of alice's."""
        exchange = exchange_of(self.house.policy, tool_call("export"), principal_of("alice"))
        exchange.recipient = Handed(Receipt(receipt, "viewer", FAR), "s-1")
        await self.house.deliveries.expect(exchange, lambda: False)
        await self.house.deliveries.settle(receipt, BODY, asked_back=False)
        return receipt

    async def ask(self, who: str, *groups: str, collect: str = "") -> httpx.Response:
        """What the console answers to a list or, with a receipt, to collecting."""
        headers = {"authorization": f"Bearer {self.house.token(who, *groups)}"}
        path = "/api/v1/deliveries"
        if collect:
            return await self.http.post(f"{path}/{collect}/collect", headers=headers)
        return await self.http.get(path, headers=headers)


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Office]:
    """A console of its own."""
    roles = {"sender": {"groups": ["users"]}, "viewer": {"groups": ["viewers"]}, "approver": {"groups": ["approvers"]},
             "steward": {"groups": ["stewards"]}}  # fmt: skip
    delivery = {"rules": [{"tools": ["export"], "to": "viewer"}]}
    async with (
        house(tmp_path, roles=roles, delivery=delivery) as built,
        httpx.AsyncClient(transport=httpx.ASGITransport(build(built)), base_url="http://console") as http,
    ):
        yield Office(built, http)


async def test_a_viewer_collects_to_the_digit(office: Office) -> None:
    """What was kept comes out as it was written, once, for no cache to keep."""
    receipt = await office.kept()
    got = await office.ask("vera", "viewers", collect=receipt)
    assert got.status_code == 200
    assert '"result":{"n":1.10}' in got.text
    assert got.json()["sender"] == "https://login.example#alice"
    assert got.headers["cache-control"] == "no-store"
    assert office.house.journal.events == ["delivered"]
    assert (await office.ask("vera", "viewers", collect=receipt)).status_code == 409


@pytest.mark.parametrize(
    ("who", "receipt", "status", "code"),
    [
        (("alice", "viewers"), None, 403, "separation"),
        (("bob", "users"), None, 403, "denied"),
        (("vera", "users", "approvers"), None, 403, "separation"),
        (("vera", "viewers"), "r-fedcba9876543210", 404, "ticket"),
    ],
)
async def test_a_refusal_has_its_status_and_record(
    office: Office, who: tuple[str, ...], receipt: str | None, status: int, code: str
) -> None:
    """Who may not is told why, on record; the one who may still gets it."""
    kept = await office.kept()
    refused = await office.ask(*who, collect=receipt or kept)
    assert (refused.status_code, refused.json()["code"]) == (status, code)
    assert office.house.journal.records[-1]["code"] == code
    assert (await office.ask("vera", "viewers", collect=kept)).status_code == 200


async def test_while_records_cannot_be_kept_nothing_is_given_out(office: Office) -> None:
    """Neither when the store is away nor when the journal is broken; afterwards it is there."""
    receipt = await office.kept()
    office.house.trouble = "the bucket is gone"
    refused = await office.ask("vera", "viewers", collect=receipt)
    assert refused.status_code == 503
    assert "bucket" not in refused.text
    office.house.trouble, office.house.journal.broken = None, True
    assert (await office.ask("vera", "viewers", collect=receipt)).status_code == 503
    office.house.journal.broken = False
    assert (await office.ask("vera", "viewers", collect=receipt)).status_code == 200


async def test_lists(office: Office) -> None:
    """Everyone sees what concerns them, without contents."""
    receipt = await office.kept()
    for who, groups, sees, may in (
        ("alice", "users", 1, False),
        ("vera", "viewers", 1, True),
        ("bob", "users", 0, None),
    ):
        listed = (await office.ask(who, groups)).json()
        assert [one["receipt"] for one in listed] == [receipt] * sees
        assert [one["may_collect"] for one in listed] == [may] * sees
        assert "1.10" not in str(listed)
    assert (await office.http.get("/api/v1/deliveries")).status_code == 401
