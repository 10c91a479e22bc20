"""Whoever is revoked acts no more, within a second: new calls, held ones, open streams, votes; until it is lifted."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.world.approver import console, vote
from tests.world.client import LEGACY, call_body, call_headers, raw_http
from tests.world.echo import SSE_TYPE, Reply
from tests.world.process import ROOT
from tests.world.scene import GOOD_BODY, SECRET, Scene, passed

SECOND = 1.0
NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway on the default policy, whose revokers are the security officers."""
    with Scene(tmp_path_factory.mktemp("revocation"), limits={"hold": "20s"}) as running:
        yield running


def officer(scene: Scene, method: str = "GET", path: str = "", *, groups: tuple[str, ...] = ("security-officers",),
            **options: Any) -> httpx.Response:  # fmt: skip
    """What the console answers to someone who wants to revoke."""
    token = scene.issuer.token("olga", groups=groups, email="olga@people.example")
    with raw_http() as http:
        url = f"{scene.gateway.console_url}/api/v1/revocations{path}"
        return http.request(method, url, headers={"Authorization": f"Bearer {token}"}, **options)


def revoke(scene: Scene, kind: str, value: str) -> int:
    """The number of a revocation that is now in force."""
    answer = officer(scene, "POST", json={"kind": kind, "value": value, "reason": "a test"})
    assert answer.status_code == 200, answer.text
    return int(answer.json()["id"])


def lift(scene: Scene, number: int) -> None:
    """Takes it back."""
    assert officer(scene, "DELETE", f"/{number}").status_code == 200


def refused(reply: httpx.Response) -> bool:
    """Whether a call was refused because someone is revoked."""
    return "was revoked" in reply.text and SECRET not in reply.text


WAYS: dict[str, Callable[[Any], tuple[str, str]]] = {
    "a subject": lambda record: ("subject", record["principal"]["subject"]),
    "an account": lambda record: ("subject", f"{record['principal']['issuer']}#{record['principal']['subject']}"),
    "a person": lambda _record: ("person", " ADA@People.example "),
    "a token by its fingerprint": lambda record: ("token", record["principal"]["token"]),
}


@pytest.mark.parametrize("way", WAYS)
def test_a_revoked_caller_is_refused_until_it_is_lifted(scene: Scene, way: str) -> None:
    """The token still holds, and nothing reaches the upstream; another person's call goes on."""
    token = scene.token()
    headers = call_headers("get_customer", token)
    seen = scene.watch()
    first = scene.http.post(scene.echo.url, json=call_body("get_customer", {}), headers=headers)
    assert passed(first)
    number = revoke(scene, *WAYS[way](seen.record(event="forwarded")))
    seen = scene.watch()
    began = time.monotonic()
    again = scene.http.post(scene.echo.url, json=call_body("get_customer", {}), headers=headers)
    assert refused(again)
    assert time.monotonic() - began < SECOND
    assert seen.connections == 0
    assert seen.record(event="denied", code="revoked")["principal"]["subject"] == "ada"
    assert passed(scene.call(sub="eve"))
    lift(scene, number)
    scene.echo.answer(Reply.whole(GOOD_BODY))
    assert passed(scene.http.post(scene.echo.url, json=call_body("get_customer", {}), headers=headers))


@pytest.mark.parametrize(
    ("kind", "value", "claims"),
    [
        ("client", "ci-runner", {"azp": "ci-runner"}),
        ("token", "j-1", {"jti": "j-1"}),
        ("person", "boss@people.example", {"act": {"sub": "agent", "email": "Boss@people.example"}}),
        ("subject", "boss", {"act": {"sub": "boss"}}),
        ("subject", "https://login.example#boss", {"actor": "boss"}),
    ],
)
def test_whatever_the_token_rests_on_can_be_revoked(scene: Scene, kind: str, value: str, claims: Any) -> None:
    """A client, a token's id, and whoever stands behind the caller; the same caller without it goes on."""
    headers = call_headers("get_customer", scene.token(**claims))
    scene.echo.answer(Reply.whole(GOOD_BODY))
    assert passed(scene.http.post(scene.echo.url, json=call_body("get_customer", {}), headers=headers))
    number = revoke(scene, kind, value)
    assert refused(scene.http.post(scene.echo.url, json=call_body("get_customer", {}), headers=headers))
    assert passed(scene.call())
    lift(scene, number)


def test_a_signing_key_can_be_revoked(scene: Scene) -> None:
    """Whatever was signed with a key that leaked is refused; what another key of the issuer has signed goes on."""
    leaked = scene.issuer.key("RS256")
    token = scene.token(algorithm="RS256")
    headers = call_headers("get_customer", token)
    scene.echo.answer(Reply.whole(GOOD_BODY))
    wait_for(lambda: passed(scene.http.post(scene.echo.url, json=call_body("get_customer", {}), headers=headers)))
    number = revoke(scene, "key", leaked.kid)
    assert refused(scene.http.post(scene.echo.url, json=call_body("get_customer", {}), headers=headers))
    assert passed(scene.call())
    lift(scene, number)


def test_a_session_can_be_revoked(scene: Scene) -> None:
    """By the fingerprint in its records; the same person's other session goes on."""
    tagged = [begun(scene, name) for name in ("s-1", "s-2")]
    scene.echo.answer(Reply.whole(GOOD_BODY))

    def call(session: str) -> httpx.Response:
        headers = call_headers("get_customer", scene.token(), era=LEGACY) | {"Mcp-Session-Id": session}
        return scene.http.post(scene.echo.url, json=call_body("get_customer", {}, era=LEGACY), headers=headers)

    seen = scene.watch()
    assert passed(call(tagged[0]))
    number = revoke(scene, "session", seen.record(event="forwarded")["session"])
    assert refused(call(tagged[0]))
    assert passed(call(tagged[1]))
    lift(scene, number)
    assert passed(call(tagged[0]))


def begun(scene: Scene, session: str) -> str:
    """The id, as the client knows it, of a session that the upstream has just begun."""
    result = {"protocolVersion": LEGACY, "capabilities": {}, "serverInfo": {"name": "e", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()
    scene.echo.answer(Reply.whole(body, headers=[("Content-Type", "application/json"), ("Mcp-Session-Id", session)]))
    client = {"protocolVersion": LEGACY, "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": client}
    reply = scene.http.post(scene.echo.url, headers=call_headers("", scene.token(), era=LEGACY), json=hello)
    return str(reply.headers["mcp-session-id"])


def test_a_held_call_is_let_go(scene: Scene) -> None:
    """Its caller is told within a second, its ticket is cancelled, and a late yes finds nothing to approve."""
    answers: list[httpx.Response] = []
    seen = scene.watch()
    waiting = threading.Thread(
        target=lambda: answers.append(scene.call("query", {"sql": "drop table held"}, sub="hal", patience=25))
    )
    waiting.start()
    ticket = seen.record(event="held", code="opened")["ticket"]
    number = revoke(scene, "person", "hal@people.example")
    began = time.monotonic()
    waiting.join(5)
    assert time.monotonic() - began < SECOND
    assert refused(answers[0])
    assert seen.record(event="cancelled")["ticket"] == ticket
    assert console(scene, "GET", f"tickets/{ticket}").json()["state"] == "cancelled"
    digest = console(scene, "GET", f"tickets/{ticket}").json()["digest"]
    late = console(scene, "POST", f"tickets/{ticket}/votes", json={"decision": "approve", "digest": digest})
    assert late.status_code == 409
    lift(scene, number)
    assert seen.connections == 0


def test_the_yes_of_a_revoked_approver_is_none(scene: Scene) -> None:
    """A grant that rests on it is not given; once the revocation is lifted, it is."""
    wanted = {"sql": "drop table voted"}
    seen = scene.watch()
    with pytest.raises(httpx.ReadTimeout):
        scene.call("query", wanted, patience=0.7)
    ticket = seen.record(event="held", code="opened")["ticket"]
    assert vote(scene, ticket, sub="vera").json()["state"] == "approved"
    number = revoke(scene, "person", "vera@people.example")
    said = scene.call("query", wanted).text
    assert f"The approval of ticket {ticket} does not count: An approver was revoked." in said
    assert "was revoked" in console(scene, "GET", "tickets", sub="vera").text
    assert seen.connections == 0
    lift(scene, number)
    assert passed(scene.call("query", wanted))


@pytest.mark.parametrize("kind", ["GET", "POST"])
@pytest.mark.parametrize("talking", [True, False], ids=["talking", "silent"])
def test_an_open_stream_ends(scene: Scene, kind: str, *, talking: bool) -> None:
    """Within a second, whether or not anything is said on it; another's stream goes on."""
    scene.echo.answer(Reply.chunked([NOTE, *([0.2, NOTE] * 40 if talking else [8.0])], headers=[SSE_TYPE]))
    headers = call_headers("get_customer", scene.token(sub="liv")) | {"Accept": "text/event-stream, application/json"}
    body = None if kind == "GET" else call_body("get_customer", {})
    if kind == "GET":
        headers = {"Authorization": headers["Authorization"], "Accept": "text/event-stream"}
    with scene.http.stream(kind, scene.echo.url, headers=headers, json=body, timeout=20) as stream:
        pieces = stream.iter_bytes()
        next(pieces)
        number = revoke(scene, "subject", "liv")
        began = time.monotonic()
        for _ in pieces:
            assert time.monotonic() - began < SECOND
        assert time.monotonic() - began < SECOND
    lift(scene, number)


def test_a_reply_that_comes_after_the_revocation_is_withheld(scene: Scene) -> None:
    """What was asked before is not told after."""
    answers: list[httpx.Response] = []
    slow = Reply((1.5, *Reply.whole(GOOD_BODY).parts))
    waiting = threading.Thread(target=lambda: answers.append(scene.call(sub="sal", reply=slow)))
    waiting.start()
    time.sleep(0.7)
    number = revoke(scene, "subject", "sal")
    waiting.join(10)
    assert "was revoked" in answers[0].text
    assert "masked" not in answers[0].text
    lift(scene, number)
    assert passed(scene.call(sub="sal", reply=slow))


def test_what_a_vote_was_cast_with_can_be_revoked(scene: Scene) -> None:
    """A yes that came with a stolen token is none once that token is revoked, though its owner is not."""
    wanted = {"sql": "drop table stolen"}
    seen = scene.watch()
    with pytest.raises(httpx.ReadTimeout):
        scene.call("query", wanted, patience=0.7)
    ticket = seen.record(event="held", code="opened")["ticket"]
    token = scene.issuer.token("vic", groups=("mcp-approvers",), jti="j-stolen")
    with raw_http() as http:
        url, headers = f"{scene.gateway.console_url}/api/v1/tickets/{ticket}", {"Authorization": f"Bearer {token}"}
        digest = http.get(url, headers=headers).json()["digest"]
        ballot = {"decision": "approve", "digest": digest}
        assert http.post(f"{url}/votes", headers=headers, json=ballot).json()["state"] == "approved"
    number = revoke(scene, "token", "j-stolen")
    assert "does not count: An approver was revoked." in scene.call("query", wanted).text
    lift(scene, number)
    assert passed(scene.call("query", wanted))


def test_nobody_lifts_what_concerns_themselves_or_locks_themselves_out(scene: Scene) -> None:
    """An officer cannot revoke what the own token rests on, nor take back what was revoked of them; another can."""
    mine = {"kind": "client", "value": "console-cli"}
    token = scene.issuer.token("olga", groups=("security-officers",), email="olga@people.example", azp="console-cli")
    with raw_http() as http:
        url, headers = f"{scene.gateway.console_url}/api/v1/revocations", {"Authorization": f"Bearer {token}"}
        said = http.post(url, headers=headers, json=mine)
        assert (said.status_code, "would revoke you" in said.text) == (409, True)
    for kind, value in (("person", "olga@people.example"), ("subject", "olga")):
        assert officer(scene, "POST", json={"kind": kind, "value": value}).status_code == 409
    assert officer(scene).status_code == 200


@pytest.mark.parametrize(
    ("kind", "value"), [("session", "zz"), ("session", "ABCDEF01234567891"), ("subject", "https://nobody.example#bob")]
)
def test_what_can_hit_nobody_is_refused(scene: Scene, kind: str, value: str) -> None:
    """A slip must not look like success."""
    assert officer(scene, "POST", json={"kind": kind, "value": value}).status_code == 409


def test_only_who_the_policy_names_revokes(scene: Scene) -> None:
    """Anyone else is refused, on record, with the role that is needed; so is a machine."""
    seen = scene.watch()
    for groups in (("mcp-users",), ("mcp-approvers",), ("audit",), ()):
        answer = officer(scene, "POST", json={"kind": "person", "value": "ada@people.example"}, groups=groups)
        assert (answer.status_code, "needs the role revoker" in answer.text) == (403, True)
    assert seen.record(event="denied", method="revoke")["principal"]["subject"] == "olga"
    assert officer(scene).status_code == 200
    assert passed(scene.call())


@pytest.mark.parametrize("order", [
    {"kind": "person"}, {"kind": "planet", "value": "x"}, {"kind": "person", "value": ""},
    {"kind": "person", "value": "  "},
    {"kind": "person", "value": "x", "extra": 1}, {"kind": "person", "value": "x" * 513}, {},
])  # fmt: skip
def test_an_order_that_is_none_is_refused(scene: Scene, order: Any) -> None:
    """And revokes nobody."""
    before = officer(scene).json()
    assert officer(scene, "POST", json=order).status_code == 422
    assert officer(scene).json() == before


def test_a_revocation_outlives_a_restart(scene: Scene) -> None:
    """And the list shows who was revoked, by whom and why."""
    number = revoke(scene, "subject", "rex")
    scene.gateway.stop()
    scene.gateway.start()
    assert refused(scene.call(sub="rex"))
    entry = next(one for one in officer(scene).json() if one["id"] == number)
    assert (entry["kind"], entry["value"], entry["reason"]) == ("subject", "rex", "a test")
    assert entry["by"].endswith("#olga")
    lift(scene, number)
    assert officer(scene, "DELETE", f"/{number}").status_code == 404
    assert passed(scene.call(sub="rex"))


def test_what_the_policy_lists_is_revoked(scene: Scene) -> None:
    """A short list lives in the policy, and is in force once the policy is."""
    roles = scene.gateway.policy_folder / "roles.yaml"
    before = roles.read_text()
    policy = yaml.safe_load(before)
    policy["revocation"]["revoked"] = [{"person": "Mia@people.example", "reason": "left"}]
    assert passed(scene.call(sub="mia"))
    try:
        roles.write_text(yaml.safe_dump(policy))
        wait_for(lambda: refused(scene.call(sub="mia")))
        assert passed(scene.call(sub="ada"))
        assert {"kind": "person", "value": "Mia@people.example", "by": "policy"}.items() <= officer(scene).json()[
            -1
        ].items()
    finally:
        roles.write_text(before)
    wait_for(lambda: passed(scene.call(sub="mia")))


def wait_for(true: Callable[[], bool]) -> None:
    """Waits some seconds until it is so."""
    until = time.monotonic() + 5
    while not true():
        assert time.monotonic() < until
        time.sleep(0.1)


def test_the_command(scene: Scene) -> None:
    """`revoke.py` revokes, lists and lifts, and says in one line what it may not."""

    def run(*words: str, groups: tuple[str, ...] = ("security-officers",)) -> subprocess.CompletedProcess[str]:
        token = scene.issuer.token("olga", groups=groups, email="olga@people.example")
        command = [sys.executable, str(ROOT / "scripts" / "revoke.py"), *words, "--gateway", scene.gateway.console_url]
        return subprocess.run([*command, "--token", token], capture_output=True, text=True, check=False, timeout=30)

    said = run("person", "nia@people.example", "--reason", "left")
    assert said.returncode == 0
    assert "Revoked: person nia@people.example (number" in said.stdout
    number = said.stdout.split("number ")[1].split(")")[0]
    assert refused(scene.call(sub="nia"))
    assert "nia@people.example" in run("list").stdout
    assert run("lift", number).returncode == 0
    assert passed(scene.call(sub="nia"))
    barred = run("subject", "ada", groups=("mcp-users",))
    assert (barred.returncode, "needs the role revoker" in barred.stderr) == (1, True)


def test_gateways_that_share_a_database_share_revocations(tmp_path: Path) -> None:
    """Within a second after one was told, the other refuses as well."""
    shared = str(tmp_path / "shared.sqlite")
    gateway = {"name": "gw-1", "database": shared}
    with (
        Scene(tmp_path / "1", settings=gateway) as one,
        Scene(tmp_path / "2", settings={**gateway, "name": "gw-2"}) as two,
    ):
        assert passed(two.call(sub="zoe"))
        number = revoke(one, "subject", "zoe")
        assert refused(one.call(sub="zoe"))
        time.sleep(SECOND)
        assert refused(two.call(sub="zoe"))
        lift(one, number)
        time.sleep(SECOND)
        assert passed(two.call(sub="zoe"))


def test_when_nobody_knows_who_is_revoked_nobody_is_believed(tmp_path: Path) -> None:
    """A database that is lost is no free pass: after some seconds every call is refused, and says so."""
    with Scene(tmp_path) as scene:
        assert passed(scene.call())
        with closing(sqlite3.connect(scene.gateway.state / "tickets.sqlite")) as database:
            database.execute("DROP TABLE revocations")
        until = time.monotonic() + 10
        while "cannot be found out" not in (reply := scene.call()).text:
            assert time.monotonic() < until, reply.text
            time.sleep(0.2)
