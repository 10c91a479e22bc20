"""Upstreams that speak no MCP: model APIs, of which no real one can be reached here, and plain HTTP services.

The upstream is scripted in each of these tests; its replies have the shape of the providers' API references.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import httpx
import pytest
import yaml

from tests.world.client import LEGACY, call_body
from tests.world.echo import JSON_TYPE, SSE_TYPE, Reply
from tests.world.policies import DEFAULT
from tests.world.scene import MASKED, SECRET, Scene

JSON = {"Content-Type": "application/json"}
KINDS = ("openai", "anthropic", "http")
TEXT = ("Content-Type", "text/plain; charset=utf-8")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway before one host that speaks each of these below a path of its own."""
    roles = yaml.safe_load((DEFAULT / "roles.yaml").read_text())
    allowed = {"openai": ["*"], "anthropic": ["*"], "http": ["GET *", "POST /http/*"]}
    roles["permissions"]["prompt-sender"] += [{"upstream": kind, "methods": allowed[kind]} for kind in KINDS]
    with Scene(tmp_path_factory.mktemp("others"), others=KINDS, roles=roles) as running:
        yield running


def ask(scene: Scene, path: str, body: Any, reply: Reply, **headers: str) -> httpx.Response:
    """One POST for a path of the scripted upstream."""
    scene.echo.answer(reply)
    url = scene.echo.url.removesuffix("/mcp") + path
    return scene.http.post(url, json=body, headers={"Authorization": f"Bearer {scene.token()}", **headers})


def events(*data: Any, kinds: bool = False) -> Reply:
    """An SSE reply with these events, in chunks that are cut in the middle of each."""
    lines = [f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in data]
    if kinds:
        lines = [f"event: {one['type']}\n{line}" for one, line in zip(data, lines, strict=True)]
    whole = "".join(lines).encode()
    return Reply.chunked([whole[at : at + 37] for at in range(0, len(whole), 37)], headers=[SSE_TYPE])


def chat(*pieces: str) -> list[Any]:
    """A chat completion that comes in these pieces."""
    shape: dict[str, Any] = {"id": "c-1", "object": "chat.completion.chunk", "created": 1, "model": "m"}
    deltas: list[dict[str, Any]] = [{"delta": {"content": piece}} for piece in pieces]
    deltas.append({"delta": {}, "finish_reason": "stop"})
    return [*({**shape, "choices": [{"index": 0, "finish_reason": None, **delta}]} for delta in deltas), "[DONE]"]


def message(*pieces: str) -> list[Any]:
    """A message that comes in these pieces."""
    start: dict[str, Any] = {
        "id": "m-1",
        "type": "message",
        "role": "assistant",
        "model": "m",
        "content": [],
        "stop_reason": None,
    }
    return [
        {"type": "message_start", "message": {**start, "usage": {"input_tokens": 1, "output_tokens": 1}}},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        *({"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": one}} for one in pieces),
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
        {"type": "message_stop"},
    ]


def said(reply: httpx.Response) -> str:
    """The text that a client puts together from a stream."""
    found = ""
    for line in reply.text.splitlines():
        if line.startswith("data: {"):
            event = json.loads(line.removeprefix("data: "))
            delta = event["choices"][0]["delta"] if "choices" in event else event.get("delta", {})
            found += delta.get("content") or delta.get("text") or ""
    return found


PIECES = ["The key is ", SECRET[:5], SECRET[5:9], SECRET[9:], ", keep it."]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}
CLAUDE = CHAT | {"max_tokens": 9}


@pytest.mark.parametrize(
    ("path", "body", "reply"),
    [
        ("/openai/chat/completions", CHAT, events(*chat(*PIECES))),
        ("/anthropic/messages", CLAUDE, events(*message(*PIECES), kinds=True)),
    ],
    ids=["openai", "anthropic"],
)
def test_a_scripted_models_stream_is_masked(scene: Scene, path: str, body: Any, reply: Reply) -> None:
    """A secret that comes in pieces, and in chunks cut anywhere, is masked in the text that clients put together."""
    seen = scene.watch()
    came = ask(scene, path, body | {"stream": True}, reply)
    assert said(came) == f"The key is {MASKED}, keep it."
    assert SECRET[5:] not in came.text
    record = seen.record(event="replied")
    assert record["masked"]
    assert SECRET not in json.dumps(seen.records)


CHOICE = {
    "index": 0, "message": {"role": "assistant", "content": SECRET}, "logprobs": {"content": [{"token": "AKIA"}]},
}  # fmt: skip
WHOLE: Mapping[str, tuple[str, Any, Any]] = {
    "openai": (
        "/openai/chat/completions",
        CHAT,
{"id": "c-1", "choices": [CHOICE]},
    ),
    "anthropic": ("/anthropic/messages", CLAUDE, {"id": "m-1", "content": [{"type": "text", "text": SECRET}]}),
    "http": ("/http/search", {"q": "hello"}, {"hits": [SECRET]}),
}  # fmt: skip


@pytest.mark.parametrize("kind", WHOLE)
def test_a_scripted_whole_reply_is_masked(scene: Scene, kind: str) -> None:
    """A reply that is not streamed is masked like any other."""
    path, body, result = WHOLE[kind]
    came = ask(scene, path, body, Reply.whole(json.dumps(result).encode()))
    assert came.status_code == 200
    assert MASKED in came.text
    assert SECRET not in came.text
    assert "AKIA" not in came.text


@pytest.mark.parametrize("kind", WHOLE)
def test_a_scripted_upstream_gets_nothing_that_is_risky(scene: Scene, kind: str) -> None:
    """A request with a secret is held, and its sender told so in the shape that the API's clients read."""
    path, body, result = WHOLE[kind]
    good = Reply.whole(json.dumps(result).encode())
    seen = scene.watch()
    risky = json.loads(json.dumps(body).replace("hello", f"use {SECRET}"))
    came = ask(scene, path, risky, good)
    assert (came.status_code, seen.connections) == (409, 0)
    error = came.json()["error"]
    assert "needs approval" in (error["sentence"] if kind == "http" else error["message"])
    assert "t-" in json.dumps(error)
    assert SECRET not in json.dumps(seen.records)
    assert ask(scene, path, body, good).status_code == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/openai/responses", {"model": "m", "input": "x", "tools": [{"type": "mcp", "server_label": "s", "server_url": "https://x.example"}]}),
        ("/anthropic/messages", CLAUDE | {"mcp_servers": [{"type": "url", "url": "https://x.example", "name": "x"}]}),
        ("/openai/files", {"purpose": "x"}),
        ("/http/../openai/files", {}),
        ("/http/%2e%2e/mcp", {}),
        ("/other", {}),
    ],
)  # fmt: skip
def test_a_scripted_upstream_is_not_reached_by_a_side_way(scene: Scene, path: str, body: Any) -> None:
    """Provider-side MCP, which no gateway sees, other parts of an API, and paths that climb."""
    seen = scene.watch()
    request = httpx.Request("POST", scene.echo.url, json=body, headers={"Authorization": f"Bearer {scene.token()}"})
    request.url = request.url.copy_with(raw_path=path.encode())
    assert scene.http.send(request).status_code == 403
    assert seen.connections == 0
    assert seen.events()[-1] in ("denied", "rejected")


def test_a_scripted_services_text_is_masked(scene: Scene) -> None:
    """Text, and events of any shape, of a service of which nothing is known."""
    text = Reply.whole(f"the key is {SECRET}\npassword: hunter2".encode(), headers=[TEXT])
    assert ask(scene, "/http/a", {}, text).text == f"the key is {MASKED}\npassword: [masked:field]"
    stream = Reply.chunked([f"event: note\ndata: {SECRET}\n\ndata: ".encode(), b'{"a":1}\n\n'], headers=[SSE_TYPE])
    assert ask(scene, "/http/a", {}, stream).text == f'event: note\ndata: {MASKED}\n\ndata: {{"a":1}}\n\n'
    picture = Reply.whole(b"\x89PNG", headers=[("Content-Type", "image/png")])
    seen = scene.watch()
    assert ask(scene, "/http/a", {}, picture).status_code == 502
    assert seen.record(event="withheld")["reason"].endswith("The upstream answered 200 with content type image/png.")


@pytest.mark.parametrize("path", ["/mcp", "/openai/chat/completions", "/http/a"])
def test_why_a_scripted_upstream_said_no_is_on_record(scene: Scene, path: str) -> None:
    """Of an error page nothing is delivered, but the operator sees its status and kind; odd words are left out."""
    body = call_body("get_customer", {}, era=LEGACY) if path == "/mcp" else CHAT
    for kind, said in (("text/x-html; a=b", "content type text/x-html"), ("<script>", "no plain content type")):
        seen = scene.watch()
        answer = Reply.whole(b"no", status=403, headers=[("Content-Type", kind)])
        assert ask(scene, path, body, answer).status_code == 403
        assert seen.record(code="withheld")["reason"].endswith(f"The upstream answered 403 with {said}.")


def test_a_scripted_services_verbs_and_paths_are_permitted_one_by_one(scene: Scene) -> None:
    """`methods` names verbs with paths; what no permission names is refused, in HTTP's own way."""
    good, bearer = Reply.whole(b"{}"), {"Authorization": f"Bearer {scene.token()}"}
    scene.echo.answer(good)
    url = scene.echo.url.removesuffix("/mcp") + "/http/items/1"
    assert scene.http.get(url, params={"q": "a b"}, headers=bearer).status_code == 200
    assert scene.echo.arrived[-1].startswith(b"GET /http/items/1?q=a+b HTTP/1.1")
    seen = scene.watch()
    assert scene.http.delete(url, headers=bearer).status_code == 403
    assert scene.http.get(url, params={"q": SECRET}, headers=bearer).status_code == 409
    assert scene.http.get(url).status_code == 401
    assert seen.connections == 0


@pytest.mark.parametrize("path", ["/mcp", "/openai/chat/completions", "/http/a"])
def test_a_scripted_upstream_that_wants_another_credential_is_the_gateways_affair(scene: Scene, path: str) -> None:
    """An upstream's 401 is about the gateway's credential; passed on, callers would look for the fault in theirs."""
    body = call_body("get_customer", {}, era=LEGACY) if path == "/mcp" else CHAT
    reply = Reply.whole(b'{"error":"invalid_token"}', status=401, headers=[JSON_TYPE, ("WWW-Authenticate", "Bearer")])
    seen = scene.watch()
    came = ask(scene, path, body, reply)
    assert came.status_code == (200 if path == "/mcp" else 502)  # a tools/call is answered in its own shape
    assert "did not accept the gateway's own credential" in came.text
    assert "www-authenticate" not in came.headers
    assert "credential: of upstream" in seen.record(event="withheld")["reason"]


def test_a_scripted_services_conditions_are_part_of_the_call(scene: Scene) -> None:
    """What makes a request safe to repeat goes on, and its text is inspected like any other."""
    good = Reply.whole(b"{}", headers=[JSON_TYPE, ("ETag", '"v2"')])
    came = ask(scene, "/http/a", {}, good, **{"Idempotency-Key": "k-1", "If-Match": '"v1"', "X-Tenant": "t"})
    assert came.headers["etag"] == '"v2"'
    arrived = scene.echo.arrived[-1].lower()
    assert b"idempotency-key: k-1\r\n" in arrived
    assert b'if-match: "v1"\r\n' in arrived
    assert b"x-tenant" not in arrived
    assert ask(scene, "/http/a", {}, good, **{"Idempotency-Key": SECRET}).status_code == 409
