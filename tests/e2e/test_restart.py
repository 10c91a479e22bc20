"""A gateway that is killed and started again loses neither a ticket, nor a vote, nor a record.

Each case runs with `kill -9` and, as the control, without.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import count
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import pytest

from tests.story.approvals import IBAN, fresh_secret, paid, payment
from tests.story.caller import Seen
from tests.story.people import ALICE, PAULA
from tests.story.setting import Setting, open_setting
from tests.world.client import raw_call

type Interruption = Callable[[], None]


@pytest.fixture
def setting(tmp_path: Path) -> Iterator[Setting]:
    """A bank behind a gateway that keeps held callers waiting for two seconds."""
    with open_setting(tmp_path, "folder", hold="2s") as opened:
        yield opened


@pytest.fixture(params=["killed", "left alone"])
def interruption(request: pytest.FixtureRequest, setting: Setting) -> Interruption:
    """What happens to the gateway in the middle: killed and started again, or nothing."""

    def kill_and_start() -> None:
        setting.gateway.kill()
        setting.gateway.start()

    return kill_and_start if request.param == "killed" else lambda: None


@pytest.fixture
def risky() -> dict[str, Any]:
    """The arguments of a call that needs approval."""
    return payment("INV-7", fresh_secret())


def test_a_pending_ticket_outlives_its_gateway(
    setting: Setting, interruption: Interruption, risky: dict[str, Any]
) -> None:
    """Killed while the caller waits: the ticket is there, can be approved, and the same call goes through once."""
    with ThreadPoolExecutor(1) as callers:
        waiting = callers.submit(setting.call, ALICE, "pay_invoice", **risky)
        (ticket,) = pending(setting, waiting)
        interruption()
        with suppress(Exception):  # its connection may have died with the gateway
            assert waiting.result().ticket == ticket
    assert pending(setting) == [ticket]
    agree(setting, ticket)
    goes_through_once(setting, risky, ticket)


def test_an_unused_grant_outlives_its_gateway(
    setting: Setting, interruption: Interruption, risky: dict[str, Any]
) -> None:
    """Killed between the vote and the call: the vote still counts, once."""
    ticket = setting.call(ALICE, "pay_invoice", **risky).ticket
    agree(setting, ticket)
    interruption()
    goes_through_once(setting, risky, ticket)


def test_a_used_grant_stays_used(setting: Setting, interruption: Interruption, risky: dict[str, Any]) -> None:
    """Killed after the call went through: sending it again is a new ticket, not a second payment."""
    ticket = setting.call(ALICE, "pay_invoice", **risky).ticket
    agree(setting, ticket)
    assert not setting.call(ALICE, "pay_invoice", **risky).refused
    interruption()
    is_held_anew(setting, risky, ticket)


def test_nothing_reaches_the_bank_without_a_record(setting: Setting, interruption: Interruption) -> None:
    """Killed under load: every payment that the bank made, answered or not, is on record as forwarded."""
    with under_load(setting) as load:
        while len(setting.bank.ledger.payments()) < 40:
            assert not any(caller.done() for caller in load)
        interruption()
    forwarded = [record["request"] for record in whole_log(setting) if record["event"] == "forwarded"]
    recorded = Counter(json.loads(request)["params"]["arguments"]["invoice_id"] for request in forwarded)
    made = Counter(payment["invoice_id"] for payment in setting.bank.ledger.payments())
    assert made <= recorded


def pending(setting: Setting, waiting: Future[Seen] | None = None) -> list[str]:
    """The tickets that wait for Paula; with a waiting caller, once there is one."""
    while True:
        found = [ticket["id"] for ticket in setting.approve(PAULA, "list", "--json").json]
        if found or waiting is None or waiting.done():
            return found


def agree(setting: Setting, ticket: str) -> None:
    """Paula says yes."""
    done = setting.approve(PAULA, "approve", ticket)
    assert done.status == 0, done.said


def goes_through_once(setting: Setting, risky: dict[str, Any], ticket: str) -> None:
    """The approved call is let through, and is held anew when it is sent again."""
    seen = setting.call(ALICE, "pay_invoice", **risky)
    assert not seen.refused, seen.text
    is_held_anew(setting, risky, ticket)


def is_held_anew(setting: Setting, risky: dict[str, Any], ticket: str) -> None:
    """The call waits under another ticket, has been paid once, and all of that is on record."""
    seen = setting.call(ALICE, "pay_invoice", **risky)
    assert seen.code == "held"
    assert seen.ticket != ticket
    assert paid(setting, "INV-7") == 1
    acts = [record["event"] for record in whole_log(setting) if record.get("ticket") == ticket]
    assert [acts.count(act) for act in ("voted", "granted", "forwarded", "replied")] == [1, 1, 1, 1]
    assert "held" in acts


@contextmanager
def under_load(setting: Setting) -> Iterator[list[Future[None]]]:
    """Four callers that pay one invoice after the other, until the end of the block."""
    numbers, enough = count(), Event()
    with ThreadPoolExecutor(4) as callers:
        try:
            yield [callers.submit(keep_paying, setting, numbers, enough) for _ in range(4)]
        finally:
            enough.set()


def keep_paying(setting: Setting, numbers: "count[int]", enough: Event) -> None:
    """Pays one invoice after the other, whatever comes of it."""
    token = ALICE.token(setting.issuer)
    while not enough.is_set():
        arguments = {"invoice_id": f"INV-{next(numbers)}", "amount": 1, "iban": IBAN}
        with suppress(httpx.HTTPError):
            raw_call(setting.bank.url, "pay_invoice", arguments, token=token, proxy=setting.gateway.url)


def whole_log(setting: Setting) -> list[dict[str, Any]]:
    """Every record, after the gateway has stopped: verified, without a gap, one for every request that arrived."""
    setting.gateway.stop()
    report = setting.audit("verify", "--json")
    assert report.status == 0, report.said
    records = [json.loads(line) for line in setting.audit("show", "--json").out.splitlines()]
    assert [record["seq"] for record in records] == list(range(len(records)))
    forwarded = Counter(record["method"] for record in records if record["event"] == "forwarded")
    assert Counter(arrival.rpc_method for arrival in setting.bank.arrivals.read()) <= forwarded
    return records
