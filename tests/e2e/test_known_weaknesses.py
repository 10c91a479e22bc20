"""Ten weaknesses that were found in a peer's separation of duties, each tried here on real processes.

Beside each refusal stands what passes, on the same gateway. All ten apply; of the seventh it should be known that a
policy is changed as files are: its record says what was in force before and after, and whose change it was is known
where the files come from. A quorum (the second) is `votes` of one rule.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from http.client import HTTPConnection
from pathlib import Path
from threading import Barrier
from typing import Any, Final

import httpx
import pytest
import yaml
from mcp.client import Client

from tests.world.approver import console, vote
from tests.world.bank import Bank
from tests.world.client import ERAS, Era, call_body, call_headers, raw_http, sdk_client
from tests.world.echo import SSE_TYPE, Reply
from tests.world.policies import DEFAULT, identity
from tests.world.process import ROOT, free_port
from tests.world.sabotage import SCRIPT, Orders
from tests.world.scene import GOOD, MASKED, SECRET, SENDER, STEWARD, Scene, Watch, passed

SECOND = 1.0
HOLD = "1s"  # for how long a held caller is kept waiting
EVERY_ROLE = ("mcp-users", "mcp-approvers", "dba", "data-stewards", "audit", "security-officers")
BEHIND = "who asks and who approves are different people."
NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
MORE: list[bytes | float] = [0.1, NOTE] * 25
SLOW: Final = r"(?=a)(a|aa)+\1\b!"  # takes time without end on many a's
RULES: dict[str, Any] = {
    "rules": [
        {"id": "payment", "where": {"tools": ["pay*"]}, "action": "hold"},
        {"id": "wire", "where": {"tools": ["wire"]}, "action": "hold", "approval": {"votes": 2}},
        {"id": "hurry", "where": {"tools": ["hurry"]}, "action": "hold", "approval": {"within": "2s"}},
    ]
}


def roles() -> dict[str, Any]:
    """The default roles, with two groups of approvers, and with nothing that keeps one account from all of them."""
    policy: dict[str, Any] = yaml.safe_load((DEFAULT / "roles.yaml").read_text())
    policy["roles"]["approver"]["groups"] = ["mcp-approvers", "dba"]
    policy["separation"]["static"] = []
    (mine,) = policy["permissions"]["prompt-sender"]
    policy["permissions"]["prompt-sender"] = [mine, mine | {"upstream": "bank"}]
    return policy


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, bank_process: Bank) -> Iterator[Scene]:
    """A gateway before an upstream and a bank, on which payments need approval, and an agent has an owner."""
    folder = tmp_path_factory.mktemp("scene")
    scene = Scene(
        folder,
        hold=HOLD,
        rules=RULES,
        roles=roles(),
        upstreams={"bank": {"url": bank_process.url, "speaks": "mcp"}},
    )
    believed = identity(scene.issuer)
    believed["identity"][0]["owners"] = {"night-agent": ["olive@people.example"]}
    scene.gateway.write_policy({"identity.yaml": believed})
    with scene:
        yield scene


@pytest.fixture
def seen(scene: Scene) -> Watch:
    """What happens during the test."""
    return scene.watch()


# 1


def test_1_admins_approve_their_own_requests(scene: Scene, seen: Watch) -> None:
    """Who holds every role there is, in one account, may approve others' calls and not their own."""
    root = scene.token(*EVERY_ROLE, sub="root")
    mine = held(scene, "pay", {"invoice": 1}, token=root)
    refused = vote(scene, mine, token=root)
    assert (refused.status_code, refused.json()["error"].endswith(BEHIND)) == (409, True)
    assert seen.record(event="denied", method="vote", ticket=mine)["roles"] == sorted(roles()["roles"])
    assert seen.arrived == []
    anothers = held(scene, "pay", {"invoice": 1})
    assert vote(scene, anothers, token=root).json()["state"] == "approved"
    assert passed(scene.call("pay", {"invoice": 1}))
    assert vote(scene, mine).json()["state"] == "approved"
    assert SECRET in call(scene, "pay", {"invoice": 1}, token=root).text  # raw: root is a data steward, too
    assert len(seen.arrived) == 2


# 2


def test_2_a_quorum_counts_groups_not_people(scene: Scene, seen: Watch) -> None:
    """Of two votes, a member of two groups of approvers gives one, and so does a person with two accounts."""
    ticket = held(scene, "wire", {"invoice": 2})
    both = scene.token("mcp-approvers", "dba", sub="paula")
    first = vote(scene, ticket, token=both).json()
    assert (first["state"], first["approvals"]) == ("pending", 1)
    one_group, other_group = (scene.token(group, sub="paula") for group in ("mcp-approvers", "dba"))
    other_account = scene.issuer.token("paula-dba", groups=("dba",), email="Paula@people.example")
    for token in (both, one_group, other_group, other_account):
        again = vote(scene, ticket, token=token)
        assert (again.status_code, again.json()["error"]) == (409, "You have voted on this ticket already.")
    assert code(scene.call("wire", {"invoice": 2})) == "held"
    assert seen.arrived == []
    second = vote(scene, ticket, token=scene.token("dba", sub="peter")).json()
    assert (second["state"], second["approvals"]) == ("approved", 2)
    assert passed(scene.call("wire", {"invoice": 2}))


# 3


def test_3_what_runs_is_not_compared_with_what_was_approved(scene: Scene, seen: Watch) -> None:
    """One digit more is another call, with a ticket of its own; the approved one goes as it was shown, once."""
    approved = {"invoice": 3, "amount": 9500}
    ticket = held(scene, "pay", approved)
    shown = json.loads(run(scene, "approve.py", "show", ticket, "--json").stdout)
    assert vote(scene, ticket).json()["state"] == "approved"
    for change in ({"amount": 9501}, {"amount": 95000}, {"amount": "9500"}, {"Amount": 9500}):
        other = held(scene, "pay", {**approved, **change})
        assert other != ticket
    assert held(scene, "pay2", approved) != ticket
    assert held(scene, "pay", approved, token=scene.token(sub="eve")) != ticket
    assert seen.arrived == []
    assert passed(scene.call("pay", approved))
    (ran,) = seen.arrived
    arrived = json.loads(ran.partition(b"\r\n\r\n")[2])
    assert arrived["params"]["arguments"] == approved == json.loads(shown["call"])["params"]["arguments"]
    assert held(scene, "pay", approved) != ticket


def test_3_on_the_command_line(scene: Scene) -> None:
    """A yes to the digest of another call is none; to the ticket's own, it is."""
    ticket, other = (held(scene, "pay", {"invoice": 3, "amount": amount}) for amount in (1, 2))
    digests = [json.loads(run(scene, "approve.py", "show", one, "--json").stdout)["digest"] for one in (ticket, other)]
    wrong = run(scene, "approve.py", "approve", ticket, "--digest", digests[1])
    assert (wrong.returncode, "not the digest of the ticket's call" in wrong.stderr) == (1, True)
    assert code(scene.call("pay", {"invoice": 3, "amount": 1})) == "held"
    right = run(scene, "approve.py", "approve", ticket, "--digest", digests[0])
    assert (right.returncode, f"{ticket} is approved" in right.stdout) == (0, True)
    assert passed(scene.call("pay", {"invoice": 3, "amount": 1}))


# 4


@pytest.mark.parametrize("era", ERAS)
async def test_4_approval_for_one_mcp_call_is_advertised_and_denied(scene: Scene, bank: Bank, era: Era) -> None:
    """With the SDK's own client: a call is held, approved by command, and goes through once."""
    invoice = f"INV-{era}"
    payment = {"invoice_id": invoice, "amount": 1, "iban": "DE89370400440532013000"}
    async with sdk_client(bank.url, scene.token(), proxy=scene.gateway.url, era=era) as client:
        ticket = await told(client, payment)
        assert bank.ledger.payments(invoice) == []
        assert not (await client.call_tool("list_customers", {})).is_error
        done = run(scene, "approve.py", "approve", ticket, "--reason", "the invoice is right")
        assert f"{ticket} is approved" in done.stdout, done.stderr
        result = await client.call_tool("pay_invoice", payment)
        assert (result.is_error, result.structured_content["invoice_id"]) == (False, invoice)
        assert len(bank.ledger.payments(invoice)) == 1
        assert await told(client, payment) != ticket
    assert len(bank.ledger.payments(invoice)) == 1


async def told(client: Client, payment: Mapping[str, Any]) -> str:
    """The ticket that a client is told of, which tries to pay."""
    result = await client.call_tool("pay_invoice", dict(payment))
    meta = result.meta or {}
    assert (result.is_error, meta["mcp-sod/code"]) == (True, "held")
    return str(meta["mcp-sod/ticket"])


# 5


def test_5_agents_can_approve(scene: Scene, seen: Watch) -> None:
    """No machine votes, whichever groups it was put into; over the API and by command. A person of the groups does."""
    ticket = held(scene, "pay", {"invoice": 5})
    agents = [scene.token(*groups, sub="agent", machine=True) for groups in (("mcp-approvers", "dba"), EVERY_ROLE)]
    digest = console(scene, "GET", f"tickets/{ticket}").json()["digest"]
    for agent in agents:
        for decision in ("approve", "deny"):
            ballot = {"decision": decision, "digest": digest}
            refused = console(scene, "POST", f"tickets/{ticket}/votes", token=agent, json=ballot)
            assert (refused.status_code, refused.json()["error"]) == (409, "Machines do not vote.")
        by_command = run(scene, "approve.py", "approve", ticket, "--digest", digest, token=agent)
        assert (by_command.returncode, "Machines do not vote." in by_command.stderr) == (1, True)
    assert seen.record(event="denied", method="vote", ticket=ticket)["principal"]["kind"] == "machine"
    assert code(scene.call("pay", {"invoice": 5})) == "held"
    assert seen.arrived == []
    assert vote(scene, ticket, token=scene.token("dba", sub="agent-smith")).json()["state"] == "approved"
    assert passed(scene.call("pay", {"invoice": 5}))


OWNED: dict[str, dict[str, Any]] = {
    "by the act chain": {"act": {"sub": "gateway", "act": {"sub": "olive"}}},
    "by the actor's address in it": {"act": {"sub": "4711", "email": "Olive@people.example"}},
    "by the claim of who started it": {"actor": "olive@people.example"},
    "by the policy": {"azp": "night-agent"},
}


@pytest.mark.parametrize("owned", OWNED)
def test_5_an_agents_owner_can_approve_its_requests(scene: Scene, seen: Watch, owned: str) -> None:
    """Whoever stands behind an agent may not agree to what it asks, nor say no; anyone else may."""
    agent = scene.token("mcp-users", sub="agent", machine=True, **OWNED[owned])
    wanted = {"invoice": 5, "owned": owned}
    ticket = held(scene, "pay", wanted, token=agent)
    for groups in (("mcp-approvers",), EVERY_ROLE):
        owner = scene.token(*groups, sub="olive")
        for decision in ("approve", "deny"):
            refused = vote(scene, ticket, decision, token=owner)
            assert (refused.status_code, refused.json()["error"].endswith(BEHIND)) == (409, True)
    assert seen.arrived == []
    strangers = held(scene, "pay", wanted)
    assert vote(scene, strangers, token=scene.token("mcp-approvers", sub="olive")).json()["state"] == "approved"
    assert vote(scene, ticket).json()["state"] == "approved"
    assert passed(call(scene, "pay", wanted, token=agent))


# 6


BODIES: dict[tuple[str, str], Any] = {  # what every path of the console that changes something is sent
    ("post", "/api/v1/tickets/{ticket_id}/votes"): {"decision": "approve"},  # and the digest
    ("post", "/api/v1/revocations"): {"kind": "person", "value": "ada@people.example"},
    ("delete", "/api/v1/revocations/{entry}"): None,
    ("post", "/api/v1/deliveries/{receipt}/collect"): None,
    ("post", "/saml/{name}/acs"): None,
}
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")


def test_6_an_api_key_can_mint_approved_tickets(scene: Scene, seen: Watch) -> None:
    """On no path and by no method of the console does a machine change anything, in whichever groups; a person does."""
    ticket = held(scene, "pay", {"invoice": 6})
    before = votes(scene), console(scene, "GET", f"tickets/{ticket}").json()
    key = scene.token(*EVERY_ROLE, sub="key", machine=True)
    paths = http(scene, "GET", "/openapi.json").json()["paths"]
    changing = {(method, path) for path, methods in paths.items() for method in methods if method != "get"}
    assert changing == BODIES.keys(), "a path that is new changes something: say here what to send to it"
    for method, path in changing:
        body = BODIES[method, path]
        body = {**body, "digest": digest(scene, ticket)} if "{ticket_id}" in path else body
        for token in (key, ""):
            assert http(scene, method, filled(path, ticket), token, json=body).status_code in {401, 403, 404, 409}
    made = {"id": "t-000000000000", "state": "approved", **BODIES["post", "/api/v1/tickets/{ticket_id}/votes"]}
    for path in {*paths, "/api/v1/tickets/{ticket_id}/approve", "/api/v1/tickets/{ticket_id}/grant"}:
        for method in METHODS:
            if (method.lower(), path) not in changing:
                answer = http(scene, method, filled(path, ticket), key, json=made)
                assert answer.status_code in ({404, 405} if method != "GET" else {200, 403, 404, 405, 409})
    assert (votes(scene), console(scene, "GET", f"tickets/{ticket}").json()) == before
    assert {"voted", "granted", "revoked"}.isdisjoint(seen.events())
    assert vote(scene, ticket).json()["state"] == "approved"
    assert passed(scene.call("pay", {"invoice": 6}))


def votes(scene: Scene) -> dict[str, int]:
    """All tickets there are, with how many have said yes."""
    return {ticket["id"]: ticket["approvals"] for ticket in console(scene, "GET", "tickets").json()}


def test_6_a_vote_says_nothing_but_yes_or_no(scene: Scene) -> None:
    """A person cannot vote in another's name, or hand in a state; a vote without that counts."""
    ticket = held(scene, "pay", {"invoice": 66})
    ballot = {"decision": "approve", "digest": digest(scene, ticket)}
    for more in ({"state": "approved"}, {"who": "peter"}, {"account": "https://login.example#peter"}, {"votes": 2}):
        assert console(scene, "POST", f"tickets/{ticket}/votes", json=ballot | more).status_code == 422
    assert code(scene.call("pay", {"invoice": 66})) == "held"
    assert console(scene, "POST", f"tickets/{ticket}/votes", json=ballot).json()["state"] == "approved"


# 7


ACTS = [
    "held", "denied", "voted", "granted", "forwarded", "replied", "policy refused", "policy changed", "revoked",
    "revocation lifted",
]  # fmt: skip


def test_7_approvals_and_rule_changes_are_missing_from_the_audit(tmp_path: Path) -> None:
    """An auditor reads, in the store and in order, who asked, who voted, what the rules became, who was revoked."""
    with Scene(tmp_path, hold=HOLD, rules=RULES) as scene:
        seen = scene.watch()
        ticket = held(scene, "pay", {"invoice": 7})
        assert vote(scene, ticket, token=scene.token(sub="ada")).status_code == 409
        assert vote(scene, ticket).json()["state"] == "approved"
        assert passed(scene.call("pay", {"invoice": 7}))
        scene.gateway.write_policy({"rules.yaml": {"rules": [{"id": "payment", "action": "allow"}]}})
        assert seen.record(event="policy refused")
        scene.gateway.write_policy({"rules.yaml": {"rules": RULES["rules"][1:]}})
        assert seen.record(event="policy changed")
        officer = scene.token("security-officers", sub="olga")
        order = {"kind": "person", "value": "Mia@people.example", "reason": "left"}
        number = console(scene, "POST", "revocations", token=officer, json=order).json()["id"]
        assert console(scene, "DELETE", f"revocations/{number}", token=officer).status_code == 200
        scene.gateway.stop()
        store, key = f"file:{scene.store}", scene.state / "keys" / "audit.key.pub"
        assert run(scene, "audit.py", "verify", "--store", store, "--public-key", str(key)).returncode == 0
        shown = run(scene, "audit.py", "show", "--store", store, "--json").stdout
    found = [record for line in shown.splitlines() if (record := json.loads(line))["event"] in ACTS]
    who = {record["event"]: record.get("principal", {}).get("subject") for record in found}
    assert list(dict.fromkeys(record["event"] for record in found)) == ACTS
    assert {who[act] for act in ("held", "denied", "granted", "forwarded")} == {"ada"}
    assert (who["voted"], who["revoked"], who["revocation lifted"]) == ("paula", "olga", "olga")
    by_act = {record["event"]: record for record in found}
    assert by_act["policy changed"]["before"] == by_act["voted"]["policy"] != by_act["policy changed"]["policy"]
    assert "rules.0.action" in by_act["policy refused"]["reason"]
    assert (by_act["revoked"]["kind"], by_act["revoked"]["value"]) == ("person", "mia@people.example")


# 8


def away(rule: object) -> dict[str, Any]:
    """What a scene is given to have its records go to a bucket that is not there."""
    env: dict[str, str | None] = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{free_port()}", "AWS_ENDPOINT_URL_S3": None}
    env |= {"AWS_PROFILE": None, "AWS_ACCESS_KEY_ID": "nobody", "AWS_SECRET_ACCESS_KEY": "nothing"}
    return {
        "env": {**env, "AWS_DEFAULT_REGION": "us-east-1"},
        "audit": {"audit": {"store": "s3://away/gw", "when_unavailable": rule}},
    }


@pytest.mark.parametrize("rule", ["refuse", {"refuse_after": "24KiB"}], ids=["store away", "queue full"])
def test_8_a_full_queue_drops_events(tmp_path: Path, rule: object) -> None:
    """Without its store, calls are refused (at once, or once so much waits); what was forwarded is all on record."""
    with Scene(tmp_path, **away(rule)) as scene:
        seen = scene.watch()
        with ThreadPoolExecutor(8) as callers:
            replies = [one.result() for one in [callers.submit(scene.call, "get", {"n": n}) for n in range(64)]]
        went = sum(map(passed, replies))
        records = seen.records
    refused = [reply for reply in replies if "The audit store takes no records for now." in reply.text]
    assert went + len(refused) == 64
    assert (went > 0, len(refused) > 0) == (rule != "refuse", True)
    events = [record["event"] for record in records]
    assert (events.count("forwarded"), events.count("replied"), len(seen.arrived)) == (went, went, went)
    assert sum(record.get("code") == "unavailable" for record in records) == len(refused)
    numbers = [record["seq"] for record in records]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))


def test_8_with_its_store_all_calls_go(scene: Scene, seen: Watch) -> None:
    """The same burst with a store that is there: each call goes, and each has its two records."""
    with ThreadPoolExecutor(8) as callers:
        assert all(passed(one.result()) for one in [callers.submit(scene.call, "get", {"n": n}) for n in range(64)])
    assert (seen.events().count("forwarded"), seen.events().count("replied"), len(seen.arrived)) == (64, 64, 64)


# 9


def test_9_a_stale_yes_overwrites_a_no(scene: Scene, seen: Watch) -> None:
    """Who looked before the no, and says yes after it, changes nothing; of a yes and a no at once, one counts."""
    wanted = {"invoice": 9}
    ticket = held(scene, "pay", wanted)
    ballot = {"decision": "approve", "digest": digest(scene, ticket)}
    assert vote(scene, ticket, "deny").json()["state"] == "denied"
    stale = console(scene, "POST", f"tickets/{ticket}/votes", sub="peter", json=ballot)
    assert (stale.status_code, stale.json()["error"]) == (409, "This ticket is denied already.")
    assert f"An approver said no to this call (ticket {ticket})" in scene.call("pay", wanted).text
    assert seen.arrived == []
    for number in range(6):
        state = after_a_race(scene, {**wanted, "number": number})
        reply = scene.call("pay", {**wanted, "number": number})
        assert (state, passed(reply)) in {("approved", True), ("denied", False)}


def after_a_race(scene: Scene, wanted: Mapping[str, Any]) -> str:
    """The state of a ticket on which two people voted at once, differently: one vote was taken, and counts."""
    ticket, start = held(scene, "pay", wanted), Barrier(2)
    said = digest(scene, ticket)

    def cast(sub: str, decision: str) -> httpx.Response:
        ballot = {"decision": decision, "digest": said}
        start.wait()
        return console(scene, "POST", f"tickets/{ticket}/votes", sub=sub, json=ballot)

    with ThreadPoolExecutor(2) as voters:
        votes = {decision: voters.submit(cast, sub, decision) for sub, decision in
                 (("paula", "approve"), ("peter", "deny"))}  # fmt: skip
    taken = [decision for decision, one in votes.items() if one.result().status_code == 200]
    state = str(console(scene, "GET", f"tickets/{ticket}").json()["state"])
    assert {"approve": "approved", "deny": "denied"}[taken[0]] == state
    assert len(taken) == 1
    return state


def test_9_revocation_does_not_reach_a_live_stream(scene: Scene) -> None:
    """The stream of whoever is revoked ends within a second, and says nothing more; another's goes on."""
    scene.echo.answer(Reply.chunked([NOTE, *MORE], headers=[SSE_TYPE]))
    with closing(listening(scene, "liv")) as gone, closing(listening(scene, "joe")) as stays:
        streams = [stream.getresponse() for stream in (gone, stays)]
        assert all(stream.readline() for stream in streams)
        officer = scene.token("security-officers", sub="olga")
        order = {"kind": "subject", "value": "liv"}
        number = console(scene, "POST", "revocations", token=officer, json=order).json()["id"]
        began = time.monotonic()
        streams[0].read()
        assert time.monotonic() - began < SECOND
        assert streams[1].read().count(NOTE.strip()) > 15
        assert time.monotonic() - began > SECOND
    assert console(scene, "DELETE", f"revocations/{number}", token=officer).status_code == 200


def listening(scene: Scene, sub: str) -> HTTPConnection:
    """A stream that someone has asked for."""
    stream = HTTPConnection("127.0.0.1", scene.gateway.port, timeout=10)
    headers = {"Authorization": f"Bearer {scene.token(sub=sub)}", "Accept": "text/event-stream"}
    stream.request("GET", scene.echo.url, headers=headers)
    return stream


def test_9_the_time_out_of_approvals_does_not_exist(scene: Scene, seen: Watch) -> None:
    """After `within` a ticket takes no vote and its caller is told, on record; before, it does."""
    late = held(scene, "hurry", {"invoice": "late"})
    in_time = held(scene, "hurry", {"invoice": "in time"})
    assert vote(scene, in_time).json()["state"] == "approved"
    assert passed(scene.call("hurry", {"invoice": "in time"}))
    assert seen.record(event="expired", ticket=late)
    refused = vote(scene, late)
    assert (refused.status_code, refused.json()["error"]) == (409, "This ticket is expired already.")
    assert held(scene, "hurry", {"invoice": "late"}) != late
    assert len(seen.arrived) == 1


# 10


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Orders:
    """Where sabotage is ordered."""
    return Orders(tmp_path_factory.mktemp("sabotage") / "order")


@pytest.fixture(scope="module")
def fragile(tmp_path_factory: pytest.TempPathFactory, orders: Orders) -> Iterator[Scene]:
    """A gateway whose stages can be broken, and with patterns that take too long: one of a rule, one of a mask."""
    rule = {"id": "slow-rule", "where": {"tools": ["analyse"]}, "regex": SLOW, "action": "note"}
    masking = yaml.safe_load((DEFAULT / "masking.yaml").read_text())
    masking["masking"].append({"id": "slow-mask", "regex": SLOW.replace("a", "b")})
    folder = tmp_path_factory.mktemp("fragile")
    more: dict[str, Any] = {"rules": {"rules": [rule]}, "masking": masking}
    with Scene(folder, script=SCRIPT, env=orders.environment, **more) as running:
        yield running


@pytest.mark.parametrize("order", ["Risk.request step raise", "Risk.request gone skip", "Masking.request step raise"])
def test_10_the_analyzer_fails_open(fragile: Scene, orders: Orders, order: str) -> None:
    """Where nothing could be analysed nothing is forwarded, on record; with the analyzer at work, it is."""
    seen = fragile.watch()
    orders.give(order)
    assert code(fragile.call()) == "unavailable"
    assert (orders.struck, seen.connections) == (True, 0)
    assert seen.record(event="denied", code="unavailable")
    orders.give("")
    assert passed(fragile.call())


def test_10_an_analyzer_that_takes_too_long_fails_open(fragile: Scene) -> None:
    """A pattern that has not come to an end in time refuses the call, even one that would only note what it finds."""
    seen = fragile.watch()
    refused = fragile.call("analyse", {"text": "a" * 500})
    assert (code(refused), "The pattern of slow-rule took longer than" in refused.text) == ("unavailable", True)
    assert seen.connections == 0
    assert seen.record(event="denied", code="unavailable")
    assert passed(fragile.call("analyse", {"text": "c" * 500}))


@pytest.mark.parametrize("order", ["Masking.response step raise", "Masking.response gone skip"])
def test_10_masking_fails_open(fragile: Scene, orders: Orders, order: str) -> None:
    """A reply that could not be masked is given to nobody, not even to whom it would be raw, on record."""
    for groups in (SENDER, STEWARD):
        seen = fragile.watch()
        orders.give(order)
        reply = fragile.call(groups=groups)
        assert (orders.struck, SECRET in reply.text, MASKED in reply.text) == (True, False, False)
        assert {record.get("code") for record in seen.records} & {"withheld", "unavailable"}
        orders.give("")
    assert passed(fragile.call())
    assert SECRET in fragile.call(groups=STEWARD).text


def test_10_a_mask_that_takes_too_long_fails_open(fragile: Scene) -> None:
    """A reply in which a mask's pattern has not come to an end in time is withheld, on record."""
    seen = fragile.watch()
    said = {"content": [{"type": "text", "text": f"{SECRET} {'b' * 500}"}]}
    slow = Reply.whole(json.dumps({"jsonrpc": "2.0", "id": 1, "result": said}).encode())
    reply = fragile.call(reply=slow)
    assert len(seen.arrived) == 1
    assert (SECRET in reply.text, MASKED in reply.text, "bbbb" in reply.text) == (False, False, False)
    assert {record.get("code") for record in seen.records} & {"withheld", "unavailable"}
    assert passed(fragile.call())


# what the tests share


def call(scene: Scene, tool: str, arguments: Mapping[str, Any], *, token: str) -> httpx.Response:
    """A call of whoever this token is of."""
    scene.echo.answer(GOOD)
    headers = call_headers(tool, token)
    return scene.http.post(scene.echo.url, json=call_body(tool, arguments), headers=headers)


def held(scene: Scene, tool: str, arguments: Mapping[str, Any], *, token: str = "") -> str:
    """The new ticket of a call that is held; its caller does not wait for more."""
    seen, body = scene.watch(), json.dumps(call_body(tool, arguments))
    with closing(HTTPConnection("127.0.0.1", scene.gateway.port, timeout=10)) as caller:
        caller.request("POST", scene.echo.url, body, call_headers(tool, token or scene.token()))
        return str(seen.record(event="held", code="opened")["ticket"])


def code(reply: httpx.Response) -> str:
    """Why the gateway refused a call."""
    return str(reply.json()["result"]["_meta"]["mcp-sod/code"])


def digest(scene: Scene, ticket: str) -> str:
    """The digest of a ticket's call."""
    return str(console(scene, "GET", f"tickets/{ticket}").json()["digest"])


def filled(path: str, ticket: str) -> str:
    """A path of the console with things in it that may be there."""
    return path.format(ticket_id=ticket, entry=1, receipt="r-0123456789ab", name="idp")


def http(scene: Scene, method: str, path: str, token: str = "", **options: Any) -> httpx.Response:
    """What the console answers to whoever this token is of."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    with raw_http() as client:
        return client.request(method, f"{scene.gateway.console_url}{path}", headers=headers, **options)


def run(scene: Scene, script: str, *words: str, token: str = "") -> subprocess.CompletedProcess[str]:
    """What comes of a command, run by an approver or by whoever this token is of."""
    told = {"SOD_TOKEN": token or scene.token("mcp-approvers", sub="paula"), "SOD_GATEWAY": scene.gateway.console_url}
    command: Sequence[str] = [sys.executable, str(ROOT / "scripts" / script), *words]
    env = {**os.environ, "COLUMNS": "200", **told}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
