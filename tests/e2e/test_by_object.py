"""Separation by object where things go wrong: restarts, several gateways, races, callers who hang up, dead servers."""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.e2e.test_separation_cases import sections
from tests.world.approver import console
from tests.world.client import call_body, call_headers
from tests.world.echo import NOTHING, SSE_TYPE, Reply
from tests.world.process import free_port
from tests.world.scene import Scene

RULES: dict[str, Any] = {
    "rules": [{"id": "payment", "where": {"tools": ["pay_invoice"]}, "keywords": ["risky"], "action": "hold"}]
}


def scene_in(folder: Path, *, name: str = "gw-test", database: Path | None = None) -> Scene:
    """A scene with the rules of the tables, its gateway not yet started."""
    down = {"other": {"url": f"http://127.0.0.1:{free_port()}/mcp", "speaks": "mcp"}}
    scene = Scene(folder, upstreams=down, roles=sections(), rules=RULES)
    file = scene.gateway.policy_folder / "gateway.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["gateway"] |= {"name": name} | ({"database": str(database)} if database else {})
    scene.gateway.write_policy({"gateway.yaml": settings})
    return scene


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A gateway with a database of its own."""
    with scene_in(tmp_path) as running:
        yield running


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Scene, Scene]]:
    """Two gateways that share one database."""
    database = tmp_path / "shared" / "state.sqlite"
    with ExitStack() as stack:
        one, two = (
            stack.enter_context(scene_in(tmp_path / name, name=name, database=database)) for name in ("gw-1", "gw-2")
        )
        yield one, two


def made(key: str) -> Reply:
    """The answer to a call that made an object."""
    result = {"content": [], "structuredContent": {"id": key}}
    return Reply.whole(json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode())


def streamed(*pauses: float, key: str) -> Reply:
    """The same as an event, after a pause, and with one after it."""
    before, after = pauses
    event = b"data: " + made(key).parts[1] + b"\n\n"  # type: ignore[operator]  # a whole reply's second part is its body
    return Reply.chunked([b":\n\n", before, event, after], headers=[SSE_TYPE])


def refusal(reply: httpx.Response) -> str | None:
    """The sentence with which a call was refused, or None."""
    result = reply.json()["result"]
    code = result.get("_meta", {}).get("mcp-sod/code")
    return None if code is None else f"{code}: {result['content'][0]['text']}"


def pays(scene: Scene, key: str, sub: str = "ada", **more: Any) -> str | None:
    """Why this person may not pay this invoice, or None: it was paid."""
    return refusal(scene.call("pay_invoice", {"invoice_id": key, **more}, sub=sub, reply=made("paid")))


def create(scene: Scene, sub: str = "ada") -> HTTPConnection:
    """Sends a call that makes an invoice, and reads nothing yet."""
    connection = HTTPConnection("127.0.0.1", scene.gateway.port, timeout=10)
    headers = call_headers("create_invoice", scene.token(sub=sub))
    connection.request("POST", scene.echo.url, json.dumps(call_body("create_invoice", {})), headers)
    return connection


def waited(ready: Callable[[], object]) -> None:
    """Waits until this is so."""
    deadline = time.monotonic() + 10
    while not ready():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("end", ["kill", "stop"])
def test_deeds_outlive_a_restart(scene: Scene, end: str) -> None:
    """Who made an object may not pay it after the gateway was killed or stopped, and started again; others may."""
    assert refusal(scene.call("create_invoice", reply=made("I-1"))) is None
    getattr(scene.gateway, end)()
    scene.gateway.start()
    assert "did create_invoice" in (pays(scene, "i-1") or "")
    assert pays(scene, "i-1", sub="bob") is None


def test_what_never_came_outlives_a_restart(scene: Scene) -> None:
    """Killed before the reply came: whose doing an unknown object is cannot be told, but to another person."""
    scene.echo.answer(Reply((5.0,)))
    with closing(create(scene)):
        waited(lambda: scene.echo.arrived)
        scene.gateway.kill()
    scene.gateway.start()
    assert "has not come here" in (pays(scene, "I-1") or "")
    assert pays(scene, "I-1", sub="bob") is None


def test_gateways_that_share_a_database_share_what_they_know(pair: tuple[Scene, Scene]) -> None:
    """What was done through one gateway separates at the other, at once, both ways."""
    one, two = pair
    assert refusal(one.call("create_invoice", reply=made("I-1"))) is None
    assert "did create_invoice" in (pays(two, "I-1") or "")
    assert pays(two, "I-1", sub="bob") is None
    assert "did pay_invoice" in (refusal(one.call("approve_invoice", {"invoice_id": "I-1"}, sub="bob")) or "")


def test_gateways_with_databases_of_their_own_do_not(tmp_path: Path) -> None:
    """The control: without a shared file, one gateway knows nothing of the other."""
    with scene_in(tmp_path / "1", name="gw-1") as one, scene_in(tmp_path / "2", name="gw-2") as two:
        assert refusal(one.call("create_invoice", reply=made("I-1"))) is None
        assert pays(two, "I-1") is None


def test_of_two_duties_at_once_one_passes(pair: tuple[Scene, Scene]) -> None:
    """One person's two calls for two duties of one object, at two gateways at the same moment: exactly one passes."""
    for scene in pair:
        scene.echo.answer(NOTHING)
    with ThreadPoolExecutor(4) as callers:
        for number in range(25):
            arguments = {"invoice_id": number}
            calls = [
                callers.submit(scene.call, tool, arguments, reply=made("x"))
                for scene in pair
                for tool in ("approve_invoice", "pay_invoice")
            ]
            passed = [refusal(call.result()) is None for call in calls]
            assert passed[0::2] in ([True, True], [False, False])  # approving, at either gateway
            assert passed[0] is not passed[1]
            assert passed[2] is not passed[3]


def test_of_two_people_at_once_both_pass(pair: tuple[Scene, Scene]) -> None:
    """The control: two people's calls for two duties of one object do not get into each other's way."""
    with ThreadPoolExecutor(2) as callers:
        for number in range(10):
            calls = [
                callers.submit(scene.call, tool, {"invoice_id": number}, reply=made("x"), sub=sub)
                for scene, tool, sub in zip(pair, ("approve_invoice", "pay_invoice"), ("ada", "bob"), strict=True)
            ]
            assert [refusal(call.result()) for call in calls] == [None, None]


def test_hanging_up_before_the_reply_opens_no_way(scene: Scene) -> None:
    """Create, hang up before the reply is read, then pay: refused, with the reference of what never came."""
    scene.echo.answer(Reply((0.5, *made("I-1").parts)))
    seen = scene.watch()
    with closing(create(scene)):
        waited(lambda: scene.echo.arrived)
    reference = seen.record(event="replied", code="broken")["ref"]
    why = pays(scene, "I-1")
    assert "has not come here" in (why or "")
    assert reference in (why or "")
    assert pays(scene, "I-1", sub="bob") is None


def test_while_a_reply_is_under_way(scene: Scene) -> None:
    """Between a stream's beginning and its answer nothing unknown is paid by whoever waits; afterwards it is."""
    scene.echo.answer(streamed(1.0, 0.0, key="I-1"))
    with closing(create(scene)) as connection:
        waited(lambda: scene.echo.arrived)
        assert "has not come here" in (pays(scene, "I-1") or "")
        assert b'"I-1"' in connection.getresponse().read()
    waited(lambda: pays(scene, "I-2") is None)
    assert "did create_invoice" in (pays(scene, "I-1") or "")


def test_hanging_up_once_the_answer_is_read(scene: Scene) -> None:
    """Clients that leave a stream with its answer, as the SDK's do, leave nothing open: what was made is known."""
    scene.echo.answer(streamed(0.0, 8.0, key="I-1"))
    connection = create(scene)
    with closing(connection.getresponse()) as reply:
        while b"I-1" not in reply.readline():
            pass
    connection.close()
    waited(lambda: pays(scene, "I-2") is None)
    assert "did create_invoice" in (pays(scene, "I-1") or "")


def test_a_call_that_reached_no_server_made_nothing(scene: Scene) -> None:
    """While the upstream is down nothing stays open, and its caller may pay what is not known."""
    other = yaml.safe_load((scene.gateway.policy_folder / "gateway.yaml").read_text())["upstreams"]["other"]["url"]
    headers = call_headers("create_invoice", scene.token())
    reply = scene.http.post(other, json=call_body("create_invoice", {}), headers=headers)
    assert reply.status_code == 502
    assert pays(scene, "I-1") is None


def test_approvers_are_not_asked_for_what_is_refused(scene: Scene) -> None:
    """A risky payment by who made the invoice is refused at once; another person's waits for an approver."""
    assert refusal(scene.call("create_invoice", reply=made("I-1"))) is None
    assert (pays(scene, "I-1", note="risky") or "").startswith("separation:")
    assert console(scene, "GET", "tickets").json() == []
    assert (pays(scene, "I-1", sub="bob", note="risky") or "").startswith("held:")
    assert len(console(scene, "GET", "tickets").json()) == 1


def test_a_changed_policy_forgets_nothing(scene: Scene) -> None:
    """What was done before a rule was changed, moved or widened counts under the rule as it is now."""
    assert refusal(scene.call("open_case", {"case": "c"}, reply=made("x"))) is None
    assert refusal(scene.call("get_case", {"case": "c"}, reply=made("x"))) is None
    file = scene.gateway.policy_folder / "roles.yaml"
    roles = yaml.safe_load(file.read_text())
    open_case, close_case = roles["separation"]["by_object"][1]["duties"]
    get_case = {"tool": "get_*", "key": "arguments:/case"}
    roles["separation"]["by_object"] = [{"duties": [get_case, {**close_case, "tool": "clos*"}, open_case]}]
    seen = scene.watch()
    scene.gateway.write_policy({"roles.yaml": roles})
    seen.record(event="policy changed")
    assert "did open_case" in (refusal(scene.call("close_case", {"case": "c"})) or "")
    assert refusal(scene.call("close_case", {"case": "c"}, sub="bob", reply=made("x"))) is None


def test_a_pointer_that_changes_forgets_nothing(scene: Scene) -> None:
    """Whoever made an object may not pay it after the policy says that results name theirs elsewhere; another may."""
    assert refusal(scene.call("create_invoice", reply=made("I-1"))) is None
    file = scene.gateway.policy_folder / "roles.yaml"
    roles = yaml.safe_load(file.read_text())
    for rule in roles["separation"]["by_object"]:
        rule["duties"] = [
            {**duty, "key": "result:/invoice/id"} if duty["tool"] == "create_invoice" else duty
            for duty in rule["duties"]
        ]
    seen = scene.watch()
    scene.gateway.write_policy({"roles.yaml": roles})
    seen.record(event="policy changed")
    assert "did create_invoice" in (pays(scene, "I-1") or "")
    assert pays(scene, "I-1", sub="bob") is None


@pytest.mark.parametrize("broken", [True, False])
def test_a_database_that_cannot_be_used_refuses(scene: Scene, broken: bool) -> None:
    """While deeds cannot be remembered, calls that a rule concerns are refused; others go through."""
    if broken:
        with closing(sqlite3.connect(scene.state / "tickets.sqlite")) as database:
            database.execute("DROP TABLE acts")
    why = refusal(scene.call("open_case", {"case": "c"}, reply=made("x")))
    assert (why or "").startswith("unavailable:") is broken
    assert refusal(scene.call("get_case", {"case": "c"}, reply=made("x"))) is None
