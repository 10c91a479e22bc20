"""What happens while a call is held: callers leave, votes come and come late, time runs out, the policy changes."""

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from select import select
from typing import Any, Literal

import pytest

from tests.world.approver import console, vote
from tests.world.client import call_body, call_headers
from tests.world.process import ROOT
from tests.world.scene import MASKED, SECRET, Scene, Watch

HOLD = 10  # seconds that a held caller is kept waiting at most
PAYLOAD = "for a birthday present"
RULES: dict[str, Any] = {
    "rules": [
        {"id": "secret", "detect": ["cloud-key"], "action": "hold"},
        {"id": "payment", "where": {"tools": ["pay"]}, "action": "hold", "approval": {"within": "1h"}},
        {"id": "hurry", "where": {"tools": ["hurry"]}, "action": "hold", "approval": {"within": "2s"}},
        {"id": "wire", "where": {"tools": ["wire"]}, "action": "hold", "approval": {"votes": 2}},
    ]
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway on which some tools need approval, in time or by two people."""
    with Scene(tmp_path_factory.mktemp("scene"), hold=f"{HOLD}s", rules=RULES) as running:
        yield running


@pytest.fixture
def seen(scene: Scene) -> Watch:
    """What happens during the test."""
    return scene.watch()


class Queue:
    """The tickets that come to wait, each told once."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._told = {ticket["id"] for ticket in console(scene, "GET", "tickets").json()}

    def new(self, number: int = 1) -> list[str]:
        """The tickets that have come since the last look, once there are so many."""
        deadline = time.monotonic() + HOLD
        while True:
            waiting = console(self._scene, "GET", "tickets", params={"state": "pending"}).json()
            found = {ticket["id"] for ticket in waiting} - self._told
            if len(found) >= number:
                assert len(found) == number
                self._told |= found
                return sorted(found)
            assert time.monotonic() < deadline, f"{len(found)} tickets wait, not {number}"
            time.sleep(0.02)


@pytest.fixture
def queue(scene: Scene) -> Queue:
    """The tickets of the test."""
    return Queue(scene)


# callers


@pytest.mark.parametrize("leaves", [True, False])
def test_a_caller_who_leaves_does_not_use_the_grant(scene: Scene, seen: Watch, queue: Queue, leaves: bool) -> None:
    """Approved after its caller hung up, a call goes through once when it is sent again; who stays is let through."""
    with closing(sent(scene, "pay", invoice=f"leaves {leaves}")) as caller:
        (ticket,) = queue.new()
        if leaves:
            caller.close()
        assert vote(scene, ticket).json()["state"] == "approved"
        if not leaves:
            assert passed(answer(caller))
    if leaves:
        assert seen.record(event="held", reason="The caller has left.")["ticket"] == ticket
        assert seen.arrived == []
        with closing(sent(scene, "pay", invoice=f"leaves {leaves}")) as again:
            assert passed(answer(again))
    assert len(seen.arrived) == 1
    with closing(sent(scene, "pay", invoice=f"leaves {leaves}")):
        assert queue.new()


@pytest.mark.parametrize("invoices", ["AAAA", "BCDE"])
def test_copies_share_a_ticket_and_one_goes_through(scene: Scene, seen: Watch, queue: Queue, invoices: str) -> None:
    """Copies of a call that arrive at once wait on one ticket and one of them passes; different calls all do."""
    different = len(set(invoices))
    with ExitStack() as stack:
        callers = [stack.enter_context(closing(sent(scene, "pay", invoice=invoice))) for invoice in invoices]
        pending = queue.new(different)
        assert [vote(scene, ticket).json()["state"] for ticket in pending] == ["approved"] * different
        answers = [answer(caller) for caller in callers]
    assert sum(passed(one) for one in answers) == len(seen.arrived) == different
    for refused in (one for one in answers if not passed(one)):
        assert (code(refused), ticket_of(refused)) == ("denied", pending[0])
        assert "has been used already" in str(refused)


@pytest.mark.parametrize(("decision", "arrivals"), [("deny", 0), ("approve", 1)])
def test_a_decision_reaches_the_waiting_caller(
    scene: Scene, seen: Watch, queue: Queue, decision: Literal["deny", "approve"], arrivals: int
) -> None:
    """A no is told to the caller who waits, and to who sends the call again; a yes lets it through."""
    with closing(sent(scene, "pay", invoice=decision)) as caller:
        (ticket,) = queue.new()
        assert vote(scene, ticket, decision).status_code == 200
        told = answer(caller)
    assert passed(told) == (decision == "approve")
    assert len(seen.arrived) == arrivals
    if decision == "deny":
        with closing(sent(scene, "pay", invoice=decision)) as again:
            for one in (told, answer(again)):
                assert (code(one), ticket_of(one)) == ("denied", ticket)
                assert f"An approver said no to this call (ticket {ticket})" in str(one)
        assert seen.arrived == []


def test_held_calls_hold_up_no_others(scene: Scene, seen: Watch, queue: Queue) -> None:
    """While fifty calls wait, others pass as if there were none, and the fifty are still waiting afterwards."""
    with ExitStack() as stack:
        held = [stack.enter_context(closing(sent(scene, "pay", invoice=f"fifty {number}"))) for number in range(50)]
        queue.new(50)
        took = []
        for number in range(10):
            began = time.monotonic()
            with closing(sent(scene, "get_customer", id=number)) as caller:
                assert passed(answer(caller))
            took.append(time.monotonic() - began)
        answered, _, _ = select([caller.sock for caller in held], [], [], 0)
    assert answered == []
    assert max(took) < 1
    assert len(seen.arrived) == 10


# votes


def test_time_runs_out_for_the_caller_and_for_the_vote(scene: Scene, seen: Watch, queue: Queue) -> None:
    """At its end a ticket is recorded as expired, its caller is told, and a vote is refused; one in time counts."""
    with closing(sent(scene, "hurry", invoice="late")) as caller:
        (ticket,) = queue.new()
        told = answer(caller)
    assert (code(told), ticket_of(told)) == ("denied", ticket)
    assert f"Ticket {ticket} is expired. Send the call again for a new one." in str(told)
    late = vote(scene, ticket)
    assert (late.status_code, late.json()["error"]) == (409, "This ticket is expired already.")
    assert seen.record(event="expired", ticket=ticket)
    assert seen.record(event="denied", method="vote", ticket=ticket)
    assert seen.arrived == []
    with closing(sent(scene, "hurry", invoice="late")) as caller:
        (in_time,) = queue.new()
        assert vote(scene, in_time).json()["state"] == "approved"
        assert passed(answer(caller))


def test_a_grant_that_was_not_used_in_time_is_over(scene: Scene, seen: Watch, queue: Queue) -> None:
    """An approval that its caller did not come back for in time is worth nothing: the call is held anew."""
    with closing(sent(scene, "hurry", invoice="grant")) as caller:
        (ticket,) = queue.new()
        caller.close()
        assert vote(scene, ticket).json()["state"] == "approved"
    assert seen.record(event="expired", ticket=ticket)
    with closing(sent(scene, "hurry", invoice="grant")):
        assert queue.new()
    assert seen.arrived == []


def test_a_quorum_counts_people(scene: Scene, seen: Watch, queue: Queue) -> None:
    """Of two votes that are asked for, one person gives one, whichever account it comes from; another's lets it go."""
    with closing(sent(scene, "wire", invoice="quorum")) as caller:
        (ticket,) = queue.new()
        assert vote(scene, ticket, sub="paula").json()["state"] == "pending"
        for sub, email in (("paula", "paula@people.example"), ("paula-admin", "Paula@people.example")):
            second = vote(scene, ticket, sub=sub, email=email)
            assert (second.status_code, second.json()["error"]) == (409, "You have voted on this ticket already.")
        assert seen.arrived == []
        assert vote(scene, ticket, sub="peter").json()["state"] == "approved"
        assert passed(answer(caller))
    assert len(seen.arrived) == 1


# the policy changes


def test_a_changed_policy_wants_a_new_ticket(scene: Scene, seen: Watch, queue: Queue) -> None:
    """A ticket of another policy can be neither voted on nor used, approved before or not; the call opens a new one."""
    tickets = {}
    for invoice in ("pending", "granted"):
        with closing(sent(scene, "pay", invoice=invoice)):
            (tickets[invoice],) = queue.new()
    assert vote(scene, tickets["granted"]).json()["state"] == "approved"
    scene.gateway.write_policy({"rules.yaml": {"rules": [*RULES["rules"], {**RULES["rules"][0], "id": "another"}]}})
    assert seen.record(event="policy changed")
    refused = vote(scene, tickets["pending"])
    assert refused.status_code == 409
    assert refused.json()["error"] == "The policy has changed since this ticket was opened."
    for number, invoice in enumerate(tickets):
        with closing(sent(scene, "pay", invoice=invoice)) as again:
            (anew,) = queue.new()
            assert len(seen.arrived) == number
            assert vote(scene, anew).json()["state"] == "approved"
            assert passed(answer(again))


# what approvers see


def test_the_list_shows_no_payload_and_no_secret(scene: Scene, queue: Queue) -> None:
    """The list, over the API and by command, tells of a call without its contents; the ticket shows them masked."""
    with closing(sent(scene, "get_customer", note=PAYLOAD, key=SECRET)):
        (ticket,) = queue.new()
    with closing(sent(scene, "get_customer", **{SECRET: PAYLOAD})) as caller:
        assert code(answer(caller)) == "denied"  # a secret as a name cannot be shown masked, so nobody is asked
    lists = [console(scene, "GET", "tickets").text, command(scene, "list"), command(scene, "list", "--json")]
    sheets = [console(scene, "GET", f"tickets/{ticket}").text, command(scene, "show", ticket)]
    for text in lists:
        assert ticket in text
        assert PAYLOAD not in text
    for text in sheets:
        assert PAYLOAD in text
        assert MASKED in text
    assert SECRET not in str(lists + sheets)


# callers and approvers


def sent(scene: Scene, tool: str, **arguments: Any) -> HTTPConnection:
    """A call on its way: its caller can wait for the answer, or leave by closing the connection."""
    caller = HTTPConnection("127.0.0.1", scene.gateway.port, timeout=HOLD / 2)
    caller.request("POST", scene.echo.url, json.dumps(call_body(tool, arguments)), call_headers(tool, scene.token()))
    return caller


def answer(caller: HTTPConnection) -> dict[str, Any]:
    """The result that the caller waited for."""
    result: dict[str, Any] = json.loads(caller.getresponse().read())["result"]
    return result


def passed(result: Mapping[str, Any]) -> bool:
    """Whether the upstream gave this result."""
    return MASKED in str(result)


def code(result: Mapping[str, Any]) -> str:
    """Why the gateway refused the call."""
    return str(result["_meta"]["mcp-sod/code"])


def ticket_of(result: Mapping[str, Any]) -> str:
    """The ticket that a refusal names."""
    return str(result["_meta"]["mcp-sod/ticket"])


def command(scene: Scene, *words: str) -> str:
    """What `approve.py` prints for an approver."""
    token = scene.token("mcp-approvers", sub="paula")
    run = [sys.executable, str(ROOT / "scripts" / "approve.py"), *words, "--gateway", scene.gateway.console_url]
    env = {"SOD_TOKEN": token, "COLUMNS": "200"}
    return subprocess.run(run, env=env, capture_output=True, text=True, timeout=30, check=True).stdout
