"""Sender and viewer: a result goes to another person than its sender, once, and by no other way.

Each refusal stands beside the same thing done by the one who may.
"""

import json
import os
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.world.client import ERAS, LEGACY, MODERN, Era, call_body, call_headers, sdk_client
from tests.world.echo import Answering, Reply
from tests.world.process import ROOT
from tests.world.receipts import (
    PAYLOAD,
    RECEIPT,
    RESULT,
    VIEWERS,
    Post,
    database,
    outcome,
    said,
    streamed,
    whole,
    with_viewers,
)
from tests.world.scene import MASKED, SECRET, SENDER, Scene

SHORT = {
    "rules": [{"tools": ["export_quick"], "to": "viewer", "within": "2s"}, {"tools": ["export_*"], "to": "viewer"}]
}
LOG = {"method": "notifications/message", "params": {"level": "info", "data": PAYLOAD}}
ERROR = {"error": {"code": -32000, "message": f"{PAYLOAD} {SECRET}", "data": {"rows": [PAYLOAD]}}}
ASKS = {
    "result": {"resultType": "input_required", "inputRequests": {"a": {"method": "roots/list"}}, "requestState": "s"}
}


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway on which results of exports go to viewers."""
    with Scene(tmp_path_factory.mktemp("scene"), **with_viewers(**SHORT)) as running:
        yield running


@pytest.fixture
def post(scene: Scene) -> Post:
    """Its people."""
    return Post(scene)


# the main way

REPLIES: dict[str, Callable[[Era], Answering]] = {
    "JSON": lambda era: whole(outcome(era)),
    "events": lambda era: streamed(LOG, b": a comment\n\n", outcome(era)),
}


@pytest.mark.parametrize("era", ERAS)
@pytest.mark.parametrize("shape", REPLIES)
def test_a_sender_gets_a_receipt_and_a_viewer_the_result(post: Post, era: Era, shape: str) -> None:
    """In either era and shape the sender's reply holds nothing of the result; the viewer's call gives it, masked."""
    seen = post.scene.watch()
    sent = post.send(REPLIES[shape](era), era=era)
    assert PAYLOAD not in sent.text
    assert "id: " not in sent.text
    result = said(sent)["result"]
    assert said(sent)["id"] == 1
    assert (result["isError"], result.get("resultType")) == (False, "complete" if era == MODERN else None)
    receipt = result["_meta"][RECEIPT]
    assert receipt in result["content"][0]["text"]
    assert "role viewer" in result["content"][0]["text"]
    got = said(post.collect(receipt, era=era))
    assert got["id"] == 1
    assert got["result"]["content"] == [{"type": "text", "text": f"{PAYLOAD} {MASKED}"}]
    assert got["result"].get("resultType") == ("complete" if era == MODERN else None)
    assert len(seen.arrived) == 1  # collecting is the gateway's own
    assert [record["event"] for record in seen.records] == ["forwarded", "replied", "delivered"]
    forwarded, replied, delivered = seen.records
    assert forwarded["receipt"] == replied["receipt"] == delivered["receipt"] == receipt
    assert PAYLOAD in replied["body"]
    assert delivered["principal"]["subject"] == "vera"
    assert (delivered["sent"], delivered["sha256"]) == (forwarded["ref"], replied["kept"])


@pytest.mark.parametrize("sender", ERAS)
def test_a_viewer_may_speak_another_revision(post: Post, sender: Era) -> None:
    """A result kept from one era is a valid answer in the other."""
    collector: Era = LEGACY if sender == MODERN else MODERN
    result = said(post.collect(post.receipt(era=sender), era=collector))["result"]
    assert result["content"][0]["text"].startswith(PAYLOAD)
    assert result.get("resultType") == "complete"


@pytest.mark.parametrize("shape", ["JSON", "events"])
@pytest.mark.parametrize("failure", ["an error", "a result that says so"])
def test_a_failure_says_nothing_to_its_sender(post: Post, failure: str, shape: str) -> None:
    """An error carries data as well: its sender learns that there was one, the viewer which, masked."""
    what = ERROR if failure == "an error" else outcome(isError=True)
    sent = post.send(whole(what) if shape == "JSON" else streamed(what))
    assert PAYLOAD not in sent.text
    result = said(sent)["result"]
    assert result["isError"] is True
    assert "The tool failed" in result["content"][0]["text"]
    got = post.collect(result["_meta"][RECEIPT])
    assert PAYLOAD in got.text
    assert SECRET not in got.text
    assert ("error" in said(got)) == (failure == "an error")


def test_an_http_error_stays_one(post: Post) -> None:
    """A 404 with an error tells the sender's client what to do, and not what is in it; headers say nothing either."""
    tell = [("ETag", f'"{PAYLOAD[:9]}"'), ("X-Request-Id", "rows-77")]
    sent = post.send(whole(ERROR, status=404, headers=tell))
    assert sent.status_code == 404
    assert PAYLOAD not in sent.text
    assert not {"etag", "x-request-id"} & {*sent.headers}
    assert PAYLOAD in post.collect(sent.json()["error"]["data"][RECEIPT]).text


def test_other_results_go_to_their_senders(post: Post) -> None:
    """The control: a tool that no handover names is answered inline, and its id goes upstream as it came."""
    sent = post.send(whole(outcome()), tool="get_customer")
    assert MASKED in sent.text
    assert RECEIPT not in sent.text
    assert b'"id":1' in post.scene.echo.arrived[-1].replace(b" ", b"")


async def test_an_official_client_gets_receipts_and_collects(post: Post) -> None:
    """The SDK's client takes the receipt of a tool that promised structured output, and calls sod_collect."""
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    tools = [{"name": "export_all", "inputSchema": {"type": "object"}, "outputSchema": schema}]
    listing = {"tools": tools, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}

    def reply(request: bytes) -> Reply:
        listed = b'"tools/list"' in request
        return whole({"result": listing} if listed else outcome(structuredContent={"n": 3}))(request)

    post.scene.echo.answer(reply)
    url, proxy = post.scene.echo.url, post.scene.gateway.url
    async with sdk_client(url, post.scene.token(*SENDER), proxy=proxy, era=MODERN) as client:
        (tool,) = (await client.list_tools()).tools
        assert (tool.name, tool.output_schema) == ("export_all", None)
        result: Any = await client.call_tool("export_all", {})
    assert not result.is_error
    async with sdk_client(url, post.token("vera", VIEWERS), proxy=proxy, era=MODERN) as client:
        assert [tool.name for tool in (await client.list_tools()).tools] == ["sod_collect"]
        got: Any = await client.call_tool("sod_collect", {"receipt": result.meta[RECEIPT]})
    assert got.structured_content == {"n": 3}


@pytest.mark.parametrize("shape", REPLIES)
def test_a_large_result_is_kept_whole(post: Post, shape: str) -> None:
    """As much as the gateway reads at all comes out as it was."""
    rows = "row \u00e9 1.10\n" * 200_000
    big = outcome(content=[{"type": "text", "text": rows}])
    got = said(post.collect(post.receipt(whole(big) if shape == "JSON" else streamed(big))))
    assert got["result"]["content"][0]["text"] == rows


# who may collect


def test_the_same_person_under_another_account_may_not(post: Post) -> None:
    """Whoever shares a person key with the sender is the sender; another viewer gets it afterwards."""
    receipt, seen = post.receipt(), post.scene.watch()
    for how in (post.collect, post.at_console):
        refused = how(receipt, sub="ada-2", email="ada@people.example")
        assert "keeps its sender and its viewer apart" in refused.text
        assert "Another person with the role viewer" in refused.text
        assert PAYLOAD not in refused.text
        record = seen.record(event="denied", code="separation")
        assert (record["principal"]["subject"], record["receipt"]) == ("ada-2", receipt)
    assert PAYLOAD in post.collect(receipt).text


def test_an_actor_behind_the_call_may_not(post: Post) -> None:
    """Who started the job that sent the call is behind it; someone else is not."""
    post.scene.echo.answer(whole(outcome()))
    token = post.token("job", SENDER, actor="vera@people.example", machine=True)
    headers = call_headers("export_all", token)
    sent = post.scene.http.post(post.scene.echo.url, json=call_body("export_all", {}), headers=headers)
    receipt = said(sent)["result"]["_meta"][RECEIPT]
    assert "apart" in post.at_console(receipt).text
    assert PAYLOAD in post.at_console(receipt, sub="viola").text


def test_without_the_role_nobody_may(post: Post) -> None:
    """Neither another sender nor a steward gets it; a viewer does."""
    receipt = post.receipt()
    for groups in (SENDER, ("data-stewards",), ()):
        refused = post.collect(receipt, sub="mallory", groups=groups)
        assert said(refused)["result"]["isError"] is True
        assert "the role viewer" in refused.text
        assert post.at_console(receipt, sub="mallory", groups=groups).status_code == 403
    assert PAYLOAD in post.at_console(receipt).text


def test_once_is_once(post: Post) -> None:
    """What was collected is gone, by either way, and its body is wiped."""
    receipt = post.receipt()
    assert PAYLOAD in post.at_console(receipt).text
    assert "collected already" in post.collect(receipt).text
    assert post.at_console(receipt, sub="viola").status_code == 409
    assert row(post.scene, receipt) == {"state": "collected", "body": None}


def test_of_many_at_once_exactly_one_gets_it(post: Post) -> None:
    """Concurrent collectors by both ways: one gets the result, and one delivery is on record."""
    receipt, seen = post.receipt(), post.scene.watch()

    def attempt(number: int) -> bool:
        how = post.at_console if number % 2 else Post(post.scene).collect
        return PAYLOAD in how(receipt, sub=f"v{number}").text

    with ThreadPoolExecutor(8) as crowd:
        assert sum(crowd.map(attempt, range(16))) == 1
    assert seen.events().count("delivered") == 1


def test_a_receipt_is_of_its_upstream_and_form(post: Post) -> None:
    """What is no receipt is refused without a look at the database; one that there is not, too."""
    for odd in ("r-0123456789abcdef", "r-", "' or 1=1", SECRET):
        assert said(post.collect(odd))["result"]["isError"] is True
    assert post.at_console("r-0123456789abcdef").status_code == 404
    assert post.at_console(post.receipt()).status_code == 200


def test_lists_show_what_concerns_one(post: Post) -> None:
    """The sender sees the state, the viewer what waits, a stranger nothing; nobody sees a body in a list."""
    receipt = post.receipt()
    mine, theirs = post.listed(receipt, sub="ada", groups=SENDER), post.listed(receipt)
    assert mine is not None
    assert theirs is not None
    assert (mine["sent_by_me"], mine["may_collect"], mine["state"]) == (True, False, "kept")
    assert (theirs["sent_by_me"], theirs["may_collect"], theirs["role"]) == (False, True, "viewer")
    assert post.listed(receipt, sub="mallory", groups=SENDER) is None
    assert PAYLOAD not in post.console().text
    with httpx.Client(trust_env=False) as http:
        assert http.get(f"{post.scene.gateway.console_url}/api/v1/deliveries").status_code == 401


def test_the_command_lists_and_gets(post: Post) -> None:
    """`scripts/collect.py` shows what waits, gives it once, and says why not with exit status 1."""
    receipt = post.receipt(whole(outcome(structuredContent={"n": 0})))
    ran = command(post, "list")
    assert (ran.returncode, receipt in ran.stdout) == (0, True)
    ran = command(post, "get", receipt, sub="ada-2", email="ada@people.example")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "apart" in ran.stderr
    ran = command(post, "get", receipt)
    assert (ran.returncode, ran.stdout) == (0, f"{PAYLOAD} {MASKED}\n")
    assert "already" in command(post, "get", receipt).stderr
    receipt = post.receipt(whole(outcome(structuredContent={"n": 0})))
    digits = json.loads(command(post, "get", receipt, "--json").stdout)
    assert digits["result"]["structuredContent"] == {"n": 0}


def command(post: Post, *words: str, sub: str = "vera", **claims: Any) -> subprocess.CompletedProcess[str]:
    """What comes of the command."""
    token = post.token(sub, VIEWERS, **claims)
    known = {"SOD_GATEWAY": post.scene.gateway.console_url, "SOD_TOKEN": token, "COLUMNS": "300", "NO_COLOR": "1"}
    script = ROOT / "scripts" / "collect.py"
    environment = os.environ | known
    return subprocess.run(
        [sys.executable, script, *words], capture_output=True, text=True, env=environment, check=False
    )


# the gateway's own tool


@pytest.mark.parametrize(("groups", "shown"), [(VIEWERS, True), ((*SENDER, *VIEWERS), True), (SENDER, False)])
def test_the_tool_is_listed_for_whom_it_is(post: Post, groups: tuple[str, ...], shown: bool) -> None:
    """Viewers see sod_collect on the first page; an upstream's tool of that name is seen by nobody."""
    tools = [{"name": "sod_collect", "title": "fake", "inputSchema": {}}, {"name": "x", "inputSchema": {}}]
    listing = {"result": {"tools": tools, "resultType": "complete"}}
    for params, first in (({}, True), ({"cursor": "2"}, False)):
        found = listed(post, groups, whole(listing), params)
        own = [tool for tool in found if tool["name"] == "sod_collect"]
        assert len(own) == (shown and first)
        assert all(tool.get("title") != "fake" for tool in own)
        assert all(tool["inputSchema"]["required"] == ["receipt"] for tool in own)


def listed(post: Post, groups: tuple[str, ...], reply: Answering, params: dict[str, Any]) -> list[dict[str, Any]]:
    """The tools that someone in these groups sees."""
    post.scene.echo.answer(reply)
    body = call_body("", {}) | {"method": "tools/list"}
    body["params"] = {"_meta": body["params"]["_meta"], **params}
    headers = call_headers("", post.token("vera", groups)) | {"Mcp-Method": "tools/list"}
    del headers["Mcp-Name"]
    answer = post.scene.http.post(post.scene.echo.url, json=body, headers=headers)
    tools: list[dict[str, Any]] = answer.json()["result"]["tools"]
    return tools


@pytest.mark.parametrize("name", ["SOD_collect", "sod_collect ", "sod\u200b_collect"])
def test_no_other_spelling_reaches_an_upstream(post: Post, name: str) -> None:
    """A name that a lenient server could take for the gateway's own tool's is refused."""
    seen = post.scene.watch()
    body = call_body(name, {"receipt": "r-0123456789abcdef"}, era=LEGACY)
    headers = call_headers(name, post.token("ada", (*SENDER, *VIEWERS)), era=LEGACY)
    assert "own tool sod_collect" in post.scene.http.post(post.scene.echo.url, json=body, headers=headers).text
    assert seen.arrived == []


# ways round


def test_progress_is_bare(post: Post) -> None:
    """Of what comes before the answer the sender gets numbers of progress, and no text, id, log or other's progress."""
    progress = {"progressToken": "p", "progress": 1, "total": 2}
    events = [
        {"method": "notifications/progress", "params": {**progress, "message": PAYLOAD}},
        {"method": "notifications/progress", "params": {**progress, "progressToken": PAYLOAD}},
        {"method": "notifications/progress", "params": {**progress, "progress": int("7" * 40)}},
        LOG,
        {"method": "notifications/resources/updated", "params": {"uri": PAYLOAD}},
    ]
    body = call_body("export_all", {})
    body["params"]["_meta"]["progressToken"] = "p"
    sent = post.send(streamed(*events, b"id: e9\ndata:\n\n", outcome()), body=body)
    heard = [json.loads(line[6:]) for line in sent.text.splitlines() if line.startswith("data: {")]
    assert [message.get("params") for message in heard] == [progress, None]
    assert PAYLOAD not in sent.text
    assert "id: " not in sent.text


def test_a_servers_question_reaches_the_sender(post: Post) -> None:
    """The call would hang otherwise: what is asked passes, masked for the sender, and the result still does not."""
    ask = {"id": 7, "method": "elicitation/create", "params": {"message": f"Which? {SECRET}", "requestedSchema": {}}}
    sent = post.send(streamed(ask, outcome(LEGACY)), era=LEGACY)
    assert f"Which? {MASKED}" in sent.text
    assert PAYLOAD not in sent.text
    assert PAYLOAD in post.collect(said(sent)["result"]["_meta"][RECEIPT]).text


@pytest.mark.parametrize("shape", [whole, streamed])
def test_a_question_in_place_of_a_result_reaches_the_sender(post: Post, shape: Callable[..., Answering]) -> None:
    """2026-07-28 asks back with a result: it is the sender's, but not with anything beside the question."""
    asked = said(post.send(shape(ASKS)))
    assert asked["id"] == 1
    assert asked["result"]["inputRequests"] == ASKS["result"]["inputRequests"]
    assert asked["result"]["requestState"] != "s"  # bound to its owner
    told = post.send(shape({"result": {**ASKS["result"], "content": RESULT["content"]}}))
    assert PAYLOAD not in told.text


@pytest.mark.parametrize(
    "result",
    [
        {"task": {"taskId": "t", "status": "working"}},
        {"resultType": "task", "taskId": "t", "note": PAYLOAD},
        {"resultType": "else", "note": PAYLOAD},
    ],
)
@pytest.mark.parametrize("shape", [whole, streamed])
def test_a_task_in_place_of_a_result_is_withheld(
    post: Post, shape: Callable[..., Answering], result: dict[str, Any]
) -> None:
    """The result of a task would come to the sender later; so nothing of it is given out."""
    told = post.send(shape({"result": result}))
    assert PAYLOAD not in told.text
    assert "taskId" not in told.text
    assert said(told)["result"]["isError"] is True


@pytest.mark.parametrize("key", ["task", "Task"])
def test_a_call_that_asks_for_a_task_is_refused(post: Post, key: str) -> None:
    """It does not leave, with the reason; without the key the same call does, and so does another tool's with it."""
    seen = post.scene.watch()
    for tool, leaves in (("export_all", False), ("get_customer", True)):
        body = call_body(tool, {}, era=LEGACY)
        body["params"][key] = {"ttl": 60000}
        sent = post.send(whole(outcome(LEGACY)), tool=tool, era=LEGACY, body=body)
        assert ("Send the call without a task." in sent.text) is not leaves
        assert len(seen.arrived) == leaves
    assert post.receipt(era=LEGACY)


def test_answers_on_a_listening_stream_are_not_taken(tmp_path: Path) -> None:
    """A GET stream gives answers to any request, but not where one could be for someone else."""
    late = Reply.chunked([b"data: ", json.dumps({"jsonrpc": "2.0", "id": 1, "result": RESULT}).encode(), b"\n\n"])
    ask = b'data: {"jsonrpc":"2.0","method":"notifications/tools/list_changed"}\n\n'
    for name, changed, passes in (("one", with_viewers(), False), ("two", {}, True)):
        with Scene(tmp_path / name, **changed) as scene:
            hello = json.dumps({"jsonrpc": "2.0", "id": 0, "result": {}}).encode()
            scene.echo.answer(
                Reply.whole(hello, headers=[("Content-Type", "application/json"), ("Mcp-Session-Id", "s")])
            )
            headers = call_headers("", scene.token(), era=LEGACY)
            begin = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": {}}
            session = scene.http.post(scene.echo.url, json=begin, headers=headers).headers["mcp-session-id"]
            for reply, shown in ((late, passes), (Reply.chunked([ask]), True)):
                scene.echo.answer(reply)
                heard = scene.http.get(scene.echo.url, headers=headers | {"Mcp-Session-Id": session}).text
                assert (PAYLOAD in heard or "list_changed" in heard) is shown


def test_another_calls_answer_is_not_taken_for_it(post: Post) -> None:
    """An answer under the sender's id, such as a server gives that mixes up two calls, is no answer to this one."""
    plain = Reply.whole(json.dumps({"jsonrpc": "2.0", "id": 1, "result": RESULT}).encode())
    told = post.send(plain)
    assert PAYLOAD not in told.text
    assert "answers a different request" in told.text
    assert PAYLOAD in post.send(plain, tool="get_customer").text


def test_the_sender_cannot_guess_the_id(post: Post) -> None:
    """The id that goes upstream is neither the sender's nor the receipt, and nobody is told it."""
    receipt = post.receipt()
    arrived = json.loads(post.scene.echo.arrived[-1].partition(b"\r\n\r\n")[2])["id"]
    assert arrived not in (1, receipt)
    assert arrived not in post.console(sub="ada", groups=SENDER).text
    assert arrived not in json.dumps(post.scene.trail.read())


@pytest.mark.parametrize("shape", [whole, streamed])
def test_what_cannot_be_masked_is_kept_for_nobody(post: Post, shape: Callable[..., Answering]) -> None:
    """An image has no masked form: neither sender nor viewer gets it, and the receipt's end is on record."""
    seen = post.scene.watch()
    image = [{"type": "image", "data": "aGFsbG8=", "mimeType": "image/png"}]
    told = post.send(shape(outcome(content=image)))
    assert said(told)["result"]["isError"] is True
    lost = seen.record(event="lost")
    assert "No result came" in post.at_console(lost["receipt"]).text


def test_a_stream_with_no_answer_says_so(post: Post) -> None:
    """The sender is told that nothing waits; the receipt's end is on record."""
    seen = post.scene.watch()
    told = post.send(streamed(LOG))
    assert "no result" in said(told)["result"]["content"][0]["text"]
    assert seen.record(event="lost")["receipt"] in told.text


# what lasts, and what does not


def test_time_runs_out(post: Post) -> None:
    """After its time a result is wiped, on record, and collected by nobody; within it, it is."""
    late, early, seen = post.receipt(tool="export_quick"), post.receipt(tool="export_quick"), post.scene.watch()
    assert PAYLOAD in post.collect(early).text
    assert seen.record(event="expired")["receipt"] == late
    deadline = time.monotonic() + 5
    while row(post.scene, late)["state"] != "expired":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert row(post.scene, late)["body"] is None
    assert "time to collect this result is over" in post.at_console(late).text


def test_a_restart_keeps_what_is_kept(tmp_path: Path) -> None:
    """Killed after the receipt: the result is there. Killed before the answer: the receipt is lost, on record."""
    with Scene(tmp_path, **with_viewers()) as scene:
        post, seen = Post(scene), scene.watch()
        receipt = post.receipt()
        with ThreadPoolExecutor(1) as sender:
            waiting = sender.submit(post.send, streamed({**outcome()}, pause=30))
            pending = seen.record(event="forwarded", receipt=wait_for_other(scene, receipt))["receipt"]
            scene.gateway.kill()
            with pytest.raises(httpx.HTTPError):
                waiting.result()
        scene.gateway.start()
        assert seen.record(event="lost")["receipt"] == pending
        assert "No result came" in post.at_console(pending).text
        assert PAYLOAD in post.at_console(receipt).text


def wait_for_other(scene: Scene, receipt: str) -> str:
    """The receipt that is expected beside this one."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with closing(sqlite3.connect(database(scene.state))) as opened:
            found = opened.execute("select id from parcels where state = 'expected' and id != ?", [receipt]).fetchone()
        if found:
            return str(found[0])
        time.sleep(0.05)
    raise AssertionError("no result is expected")


def row(scene: Scene, receipt: str) -> dict[str, Any]:
    """The parcel's state and body in the database."""
    with closing(sqlite3.connect(database(scene.state))) as opened:
        state, body = opened.execute("select state, body from parcels where id = ?", [receipt]).fetchone()
    return {"state": state, "body": body}


def test_nothing_lies_open_on_disk(post: Post) -> None:
    """Neither the database nor its log holds a byte of the result; the key is its owner's alone."""
    receipt = post.receipt()
    files = [file for file in post.scene.state.glob("tickets.sqlite*") if file.is_file()]
    assert files
    assert all(PAYLOAD.encode() not in file.read_bytes() for file in files)
    assert (post.scene.state / "keys" / "delivery.key").stat().st_mode & 0o777 == 0o600
    assert PAYLOAD in post.collect(receipt).text


@pytest.mark.parametrize(
    "change",
    [
        "account = 'x'",
        "behind = '[]'",
        "role = 'viewer', expires = expires + 9",
        "tool = 'other'",
        "body = zeroblob(length(body))",
        "body = substr(body, 1, length(body) - 1)",
        "body = (select body from parcels as other where other.id = :other)",
    ],
)
def test_a_row_that_was_altered_gives_nothing(post: Post, change: str) -> None:
    """Whoever writes to the database gets no result by it: the seal binds it to its row; the other one still opens."""
    receipt, other, seen = post.receipt(), post.receipt(), post.scene.watch()
    with closing(sqlite3.connect(database(post.scene.state))) as opened, opened:
        opened.execute(f"update parcels set {change} where id = :receipt", {"receipt": receipt, "other": other})  # noqa: S608 (the rows above)
    for how in (post.collect, post.at_console):
        refused = how(receipt)
        assert PAYLOAD not in refused.text
        assert "cannot be opened" in refused.text
    assert seen.record(code="unavailable")
    assert PAYLOAD in post.collect(other).text


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    """With its key lost or another gateway's, the gateway says so; with the right one put back, the result is there."""
    with Scene(tmp_path, **with_viewers()) as scene:
        post = Post(scene)
        receipt, file = post.receipt(), scene.state / "keys" / "delivery.key"
        right = file.read_bytes()
        for key in (bytes(32), right):
            scene.gateway.stop()
            file.write_bytes(key)
            scene.gateway.start()
            got = post.at_console(receipt)
            assert (PAYLOAD in got.text) is (key == right)
            assert ("need the same keys/delivery.key" in got.text) is (key != right)


def test_while_the_database_fails_nothing_leaves(post: Post) -> None:
    """No row, no call: with the table gone the call does not leave; with it back, it does."""
    seen = post.scene.watch()
    rename(post.scene, "parcels", "away")
    refused = post.send(whole(outcome()))
    rename(post.scene, "away", "parcels")
    assert "database cannot be used" in refused.text
    assert seen.arrived == []
    assert post.receipt()


@pytest.mark.parametrize("shape", [whole, streamed])
def test_what_cannot_be_kept_is_given_to_nobody(post: Post, shape: Callable[..., Answering]) -> None:
    """When the table goes while the call is out, the sender gets nothing of the result, and its loss is on record."""
    seen, answer = post.scene.watch(), shape(outcome())

    def reply(request: bytes) -> Reply:
        rename(post.scene, "parcels", "away")
        return answer(request)

    told = post.send(reply)
    rename(post.scene, "away", "parcels")
    assert PAYLOAD not in told.text
    if shape is whole:
        assert "could not be kept" in told.text
    assert seen.record(code="withheld")
    lost = seen.record(event="lost")["receipt"]
    deadline = time.monotonic() + 5
    while row(post.scene, lost)["state"] != "lost":
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert PAYLOAD in post.collect(post.receipt()).text


def rename(scene: Scene, old: str, new: str) -> None:
    """Takes a table away, or puts it back."""
    with closing(sqlite3.connect(database(scene.state), timeout=10)) as opened, opened:
        opened.execute(f"alter table {old} rename to {new}")
