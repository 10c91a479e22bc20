"""Side ways that an attacker has tried: beside the arguments, beside the answer, beside the approval."""

import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from tests.world.approver import vote
from tests.world.client import LEGACY, call_body, call_headers
from tests.world.echo import JSON_TYPE, SSE_TYPE, Reply
from tests.world.policies import DEFAULT
from tests.world.scene import GOOD, SECRET, Scene, passed

ANOTHER = "AKIA" + "ZYXWVUTSRQPONMLK"
STATE = "raw-state-of-alice"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway before an MCP server and an HTTP service."""
    roles = yaml.safe_load((DEFAULT / "roles.yaml").read_text())
    roles["permissions"]["prompt-sender"].append({"upstream": "http", "methods": ["*"]})
    with Scene(tmp_path_factory.mktemp("side"), others=["http"], roles=roles) as running:
        yield running


def post(scene: Scene, message: Any, reply: Reply = GOOD, **headers: Any) -> httpx.Response:
    """One POST of this very message."""
    scene.echo.answer(reply)
    sent = {**call_headers("", scene.token(), era=LEGACY), **headers}
    return scene.http.post(scene.echo.url, json=message, headers=sent, timeout=10)


def asked(method: str, request_id: Any = 1, **params: Any) -> dict[str, Any]:
    """A request; without an id, what passes for a notification."""
    envelope = {} if request_id is None else {"id": request_id}
    return {"jsonrpc": "2.0", **envelope, "method": method, "params": params}


@pytest.mark.parametrize(
    "message",
    [
        asked("tasks/cancel", None, taskId="t-1"),
        asked("subscriptions/listen", None, notifications={"taskIds": ["t-1"]}),
        asked("tools/call", None, name="get_customer", requestState=STATE),
        asked("notifications/progress", None, requestState=STATE),
        asked("tasks/get", taskId=["t-1"]),
        asked("tasks/get", taskId={"t-1": 1}),
        asked("tools/call", name="get_customer", requestState=[STATE]),
        asked("tools/call", name="get_customer", _meta={"io.modelcontextprotocol/related-task": "t-1"}),
        asked("tools/call", name="get_customer", _meta={"io.modelcontextprotocol/related-task": {"taskId": ["t-1"]}}),
    ],
    ids=lambda message: json.dumps(message)[17:90],
)
def test_what_is_anothers_is_not_reached_by_another_shape(scene: Scene, message: Any) -> None:
    """Neither as a notification nor as a value of another type."""
    seen = scene.watch()
    assert post(scene, message).status_code in (200, 400, 404)
    assert seen.connections == 0
    assert seen.events()[-1] in ("denied", "rejected")
    assert passed(post(scene, call_body("get_customer", {}, era=LEGACY)))


def risky(**more: Any) -> dict[str, Any]:
    """A call that is held, with what is beside its arguments."""
    message = call_body("query", {"sql": f"drop table x -- {SECRET}"}, era=LEGACY)
    return {**message, **{key: value for key, value in more.items() if key != "meta"}} | {
        "params": message["params"] | ({"_meta": more["meta"]} if "meta" in more else {})
    }


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        (risky(meta={"progressToken": ANOTHER}), {}),
        (risky(id=ANOTHER), {}),
        (risky(id="launch the other thing that nobody approved"), {}),
        (risky(), {"Origin": f"https://{ANOTHER}.example"}),
    ],
    ids=["progress token", "id", "words as id", "origin"],
)
def test_what_comes_beside_an_approved_call_is_not_approved(
    scene: Scene, message: Any, headers: dict[str, str]
) -> None:
    """A second secret where no digest would bind it, added once the call is approved: the grant is not for that."""
    held = post(scene, risky(meta={"progressToken": 1}))
    ticket = held.json()["result"]["_meta"]["mcp-sod/ticket"]
    vote(scene, ticket)
    seen = scene.watch()
    assert "needs approval" in (came := post(scene, message, GOOD, **headers).text) or "no approval covers" in came
    assert seen.connections == 0
    assert passed(post(scene, risky(meta={"progressToken": 7})))


def test_secrets_of_a_query_are_masked_on_record(scene: Scene) -> None:
    """A mask for a field knows it in a query, too."""
    seen = scene.watch()
    scene.echo.answer(Reply.whole(b"{}"))
    url = scene.echo.url.removesuffix("/mcp") + "/http/login?password=hunter2&user=ada"
    assert scene.http.get(url, headers={"Authorization": f"Bearer {scene.token()}"}).status_code == 200
    request = seen.record(event="forwarded")["request"]
    assert "hunter2" not in json.dumps(seen.records)
    assert '"user":"ada"' in request.replace(" ", "")


def test_what_stands_beside_a_message_is_on_record(scene: Scene) -> None:
    """A header that goes upstream is shown with the call."""
    seen = scene.watch()
    assert passed(post(scene, call_body("get_customer", {}, era=LEGACY), Origin="https://somewhere.example"))
    assert "https://somewhere.example" in seen.record(event="forwarded")["request"]
    assert b"origin: https://somewhere.example" in seen.arrived[-1].lower()


def test_nothing_goes_beside_a_refused_answer(scene: Scene) -> None:
    """What a client says to a server's question, in whichever header, is refused as a whole."""
    question = b'{"jsonrpc":"2.0","id":7,"method":"elicitation/create","params":{"message":"which?"}}'
    answer = b'{"jsonrpc":"2.0","id":1,"result":{"content":[]}}'
    asks = Reply.chunked([b"data: " + question + b"\n\ndata: " + answer + b"\n\n"], headers=[SSE_TYPE])
    said = {"jsonrpc": "2.0", "id": 7, "result": {"action": "accept", "content": {}}}
    accepted = Reply.whole(b"", status=202)
    for header in ({"Mcp-Param-Note": SECRET}, {"Origin": f"https://{SECRET}.example"}):
        assert "elicitation" in post(scene, call_body("get_customer", {}, era=LEGACY), asks).text
        seen = scene.watch()
        post(scene, said, accepted, **header)
        assert SECRET.encode() not in b"".join(seen.arrived)
        assert seen.events()[0] in ("denied", "rejected")
    assert "elicitation" in post(scene, call_body("get_customer", {}, era=LEGACY), asks).text
    seen = scene.watch()
    assert post(scene, said, accepted).status_code == 202
    assert json.loads(seen.arrived[-1].partition(b"\r\n\r\n")[2]) == said


def test_a_reply_withheld_at_its_head_is_told_at_once(scene: Scene) -> None:
    """An upstream that says no more after a bad head does not keep its client waiting."""
    head = Reply.chunked([5.0], headers=[SSE_TYPE, ("Content-Encoding", "gzip")])
    began = time.monotonic()
    assert "withheld" in post(scene, call_body("get_customer", {}, era=LEGACY), head).text
    assert time.monotonic() - began < 3


def test_a_feed_ends_with_its_token(scene: Scene) -> None:
    """An HTTP service's events last no longer than who listens to them may."""
    feed = Reply.chunked([part for _ in range(60) for part in (b"data: 1\n\n", 0.2)], headers=[SSE_TYPE])
    scene.echo.answer(feed)
    token = scene.token(lifetime=-26)  # the leeway is 30 seconds
    began = time.monotonic()
    url = scene.echo.url.removesuffix("/mcp") + "/http/feed"
    came = scene.http.get(url, headers={"Authorization": f"Bearer {token}"}, timeout=15)
    assert came.status_code == 200
    assert time.monotonic() - began < 8


def test_a_body_has_one_type(scene: Scene) -> None:
    """What a server might read as JSON is read as JSON here, or not at all; and it goes on with its type."""
    url = scene.echo.url.removesuffix("/mcp") + "/http/a"
    scene.echo.answer(Reply.whole(b"{}", headers=[JSON_TYPE]))
    for kind, status in (("text/json", 415), ("text/xml", 415), ("text/plain ;charset=utf-8", 200)):
        seen = scene.watch()
        headers = {"Authorization": f"Bearer {scene.token()}", "Content-Type": kind}
        assert scene.http.post(url, content=b"plain words", headers=headers).status_code == status
        assert seen.connections == (status == 200)
    assert b"content-type: text/plain; charset=utf-8\r\n" in scene.echo.arrived[-1].lower()
