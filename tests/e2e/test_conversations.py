"""Conversations through the gateway: servers ask, report, notify and hang up, and honest clients notice nothing.

Servers and clients are the official SDK's, in the three ways in which MCP has been spoken over HTTP.
"""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from mcp.client import Client
from mcp.shared.exceptions import MCPError
from mcp.types import (
    CreateMessageRequestParams,
    CreateMessageResult,
    ElicitRequestParams,
    ElicitResult,
    ListRootsResult,
    LoggingMessageNotificationParams,
    Root,
    TextContent,
)

from tests.world.client import LEGACY, MODERN, sdk_client
from tests.world.echo import Reply
from tests.world.line import Heard, Line, answer_of, call, request
from tests.world.scene import Scene
from tests.world.talker import NEWS, SECRET
from tests.world.talks import FORBIDDEN, OLDER, WAYS, Mode, Talks, Way

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")
MASKED = "[masked:secret]"


@pytest.fixture(scope="module", params=["regular", "reverse"])
def talks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talks]:
    """The talkers behind a gateway, led through in either way."""
    mode: Mode = request.param
    with Talks(tmp_path_factory.mktemp(f"talks-{mode}"), mode) as running:
        yield running


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A scripted server behind a gateway."""
    with Scene(tmp_path_factory.mktemp("scripted")) as running:
        yield running


class User:
    """The callbacks of a client, with all that the server said to them."""

    def __init__(self, word: str = "gold") -> None:
        self.word = word
        self.heard: list[str] = []

    @property
    def callbacks(self) -> dict[str, Any]:
        """For the client's constructor."""
        return {
            "elicitation_callback": self._elicit,
            "sampling_callback": self._sample,
            "list_roots_callback": self._roots,
            "logging_callback": self._log,
            "message_handler": self._take,
            "log_level": "info",
        }

    async def progress(self, _progress: float, _total: float | None, message: str | None) -> None:
        """What `call_tool` is given."""
        self.heard.append(f"progress {message}")

    async def _elicit(self, _context: Any, asked: ElicitRequestParams) -> ElicitResult:
        self.heard.append(f"asked {asked.message}")
        return ElicitResult(action="accept", content={"word": self.word})

    async def _sample(self, _context: Any, asked: CreateMessageRequestParams) -> CreateMessageResult:
        self.heard.append(f"asked {asked.messages}")
        return CreateMessageResult(role="assistant", content=TextContent(type="text", text=self.word), model="m")

    async def _roots(self, _context: Any) -> ListRootsResult:
        self.heard.append("asked for roots")
        return ListRootsResult(roots=[Root.model_validate({"uri": f"file:///{self.word}"})])

    async def _log(self, said: LoggingMessageNotificationParams) -> None:
        self.heard.append(f"log {said.data}")

    async def _take(self, message: Any) -> None:
        if message.method == "notifications/resources/updated":
            self.heard.append(f"updated {message.params.uri}")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("tool", ["ask", "sample", "roots"])
async def test_a_question_reaches_the_client_and_its_answer_the_server(talks: Talks, way: Way, tool: str) -> None:
    """What the server asks in the middle of a call is masked for the client, and what the client answers arrives."""
    user = User()
    async with talks.client(way, **user.callbacks) as client:
        await streams_open(talks, way)
        result = await client.call_tool(tool, read_timeout_seconds=10)
    assert [heard[:5] for heard in user.heard] == ["asked"]
    assert tool == "roots" or MASKED in user.heard[0]
    assert "gold" in str(result.content)
    assert MASKED in str(result.content)
    assert SECRET not in str([user.heard, result])


@pytest.mark.parametrize("way", WAYS)
async def test_progress_and_log_messages_come_as_they_happen(talks: Talks, way: Way) -> None:
    """Each step's progress and log message is at the client before the call is over, and masked."""
    user, loop = User(), asyncio.get_running_loop()
    first: list[float] = []

    async def hear(progress: float, total: float | None, message: str | None) -> None:
        first.append(loop.time())
        await user.progress(progress, total, message)

    async with talks.client(way, **user.callbacks) as client:
        result = await client.call_tool("report", {"steps": 3, "pause": 0.1}, progress_callback=hear)
        over = loop.time()
    steps = [f"progress step {step} at {MASKED}" for step in (1, 2, 3)]
    assert [heard for heard in user.heard if heard.startswith("progress")] == steps
    assert [heard for heard in user.heard if heard.startswith("log")] == [f"log log {n} of {MASKED}" for n in (1, 2, 3)]
    assert over - first[0] > 0.15
    assert result.content[0].model_dump()["text"] == f"3 steps {MASKED}"


@pytest.mark.parametrize("way", [LEGACY, MODERN])
async def test_a_client_comes_back_to_a_stream_that_the_server_closed(talks: Talks, way: Way) -> None:
    """SEP-1699: the server closes the stream of a call early, and the client resumes it with a GET."""
    user, seen = User(), talks.watch()
    async with talks.client(way, **user.callbacks) as client:
        result = await client.call_tool("poll", read_timeout_seconds=10)
    assert result.content[0].model_dump()["text"] == f"came back {MASKED}"
    assert user.heard == [f"log before {MASKED}", f"log after {MASKED}"]
    resumed = [one.header("last-event-id") for one in seen.arrived if one.header("last-event-id")]
    assert bool(resumed) == (way == LEGACY)  # since 2026 streams are not resumed, and the server does not close them
    assert all(event_id.isdecimal() for (event_id,) in resumed)  # as the server gave it


@pytest.mark.parametrize("way", [OLDER, LEGACY])
async def test_a_subscriber_hears_of_updates(talks: Talks, way: Way) -> None:
    """Before 2026, a notification that belongs to no call comes on the session's own stream."""
    user = User()
    async with talks.client(way, **user.callbacks) as client:
        await streams_open(talks, way)
        await client.subscribe_resource(NEWS)
        await client.call_tool("touch")
        await until(lambda: user.heard == [f"updated {NEWS}"])


async def test_a_listener_hears_of_updates(talks: Talks) -> None:
    """2026: a subscription is the reply to `subscriptions/listen`, and lasts until the client closes it."""
    seen = talks.watch()
    async with talks.client(MODERN) as client:
        async with client.listen(resource_subscriptions=[NEWS]) as subscription:
            await client.call_tool("touch")
            event = await asyncio.wait_for(anext(subscription), 5)
        assert NEWS in str(event)
        await asyncio.to_thread(
            seen.record, event="replied", method="subscriptions/listen"
        )  # the client left, and so did the gateway
        assert SECRET not in str((await client.read_resource(NEWS)).contents)
    assert "subscriptions/listen" in [one.rpc_method for one in seen.arrived]


@pytest.mark.parametrize("way", WAYS)
async def test_a_call_that_is_given_up_is_cancelled(talks: Talks, way: Way) -> None:
    """A client that gives up says so, in the way of its era, and the server's call ends; the next call is answered."""
    mark = f"{way}-{talks.proxy is None}"
    async with talks.client(way) as client:
        with pytest.raises(Exception, match=r"(?i)time"):
            await client.call_tool("wait", {"seconds": 30, "mark": mark}, read_timeout_seconds=0.5)
        await until(lambda: f"{mark} cancelled" in talks.talker.fates())
        result = await client.call_tool("wait", {"seconds": 0, "mark": f"{mark}-control"})
    assert not result.is_error
    assert f"{mark}-control finished" in talks.talker.fates()


async def test_a_session_ends_with_its_client(talks: Talks) -> None:
    """The DELETE at the end ends the server's session, which was alive until then."""
    async with talks.client(LEGACY) as client:
        await client.list_tools()
        (session,) = {one.header("mcp-session-id")[0] for one in talks.talker.arrivals.read()[-1:]}
        assert straight(talks, session) == 200
    assert talks.talker.arrivals.read()[-1].method == "DELETE"
    assert straight(talks, session) == 404


@pytest.mark.parametrize("version", ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25"])
def test_every_revision_with_a_handshake(talks: Talks, version: str) -> None:
    """A session of each revision before 2026: shaken hands upon, used, and ended."""
    with talks.line() as line:
        hello = answer_of(line.begin(version))["result"]
        assert hello["protocolVersion"] == version
        assert MASKED in hello["instructions"]
        assert {tool["name"] for tool in answer_of(line.post(request("tools/list", {})))["result"]["tools"]} >= {"ask"}
        assert MASKED in answer_of(line.post(call("report", steps=1, pause=0)))["result"]["content"][0]["text"]
        assert line.delete().status_code == 200
        assert line.post(request("tools/list", {})).status_code == 404


async def test_a_client_finds_out_what_the_server_speaks(talks: Talks) -> None:
    """Left alone, the SDK's client asks `server/discover` and speaks 2026 from then on."""
    seen = talks.watch()
    async with sdk_client(talks.url(), talks.token(), proxy=talks.proxy) as client:
        assert client.protocol_version == MODERN
        assert not (await client.call_tool("report", {"steps": 1})).is_error
    assert seen.arrived[0].rpc_method == "server/discover"


NO_ID = b'{"jsonrpc":"2.0","id":%b,"error":{"code":-32600,"message":"Bad Request: Missing session ID"}}'
# How servers from before 2026 answer to `server/discover`.
UNKNOWN = {
    "an error with an id of its own": Reply.whole(NO_ID % b'"server-error"', status=400),
    "an error without an id": Reply.whole(NO_ID % b"null", status=400),
    "an error as an answer": Reply.whole(NO_ID % b"1"),
    "a sentence": Reply.whole(b"Unsupported protocol version", status=400, headers=[("Content-Type", "text/plain")]),
    "nothing": Reply.whole(b"", status=404, headers=[]),
}


@pytest.mark.parametrize("through", [True, False], ids=["gateway", "direct"])
@pytest.mark.parametrize("name", UNKNOWN)
async def test_a_client_falls_back_to_what_the_server_speaks(scene: Scene, name: str, *, through: bool) -> None:
    """A client that finds no server of 2026 shakes hands instead, through the gateway as without it."""
    versions = {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "old", "version": "1"}}
    hello = Reply.whole(json.dumps({"jsonrpc": "2.0", "id": 2, "result": versions}).encode())
    await asyncio.sleep(0.3)  # the client before may still be saying goodbye
    scene.echo.answer(UNKNOWN[name], hello, Reply.whole(b"", status=202))
    proxy = scene.gateway.url if through else None
    async with sdk_client(scene.echo.url, scene.token(), proxy=proxy, read_timeout_seconds=5) as client:
        assert client.protocol_version == "2025-06-18"


def test_request_state_comes_back_as_the_server_gave_it(talks: Talks) -> None:
    """2026: the client repeats its call with answers and the state, which the server gets back to the letter."""
    seen = talks.watch()
    with talks.line() as line:
        asked = answer_of(line.modern("tools/call", {"name": "ask", "arguments": {}}))["result"]
        assert asked["resultType"] == "input_required"
        assert MASKED in json.dumps(asked["inputRequests"])
        answers = {key: {"action": "accept", "content": {"word": "gold"}} for key in asked["inputRequests"]}
        again = {"name": "ask", "arguments": {}, "inputResponses": answers, "requestState": asked["requestState"]}
        result = answer_of(line.modern("tools/call", again))["result"]
    assert "gold" in result["content"][0]["text"]
    state = seen.arrived[-1].json["params"]["requestState"]
    assert asked["requestState"].startswith(f"{state}.")
    assert len(asked["requestState"]) > len(state) + 16  # the tag is the gateway's, and no business of the server's


@pytest.mark.parametrize("word", [SECRET, FORBIDDEN])
@pytest.mark.parametrize("way", WAYS)
async def test_an_answer_is_inspected_like_a_call(talks: Talks, way: Way, word: str) -> None:
    """What the rules refuse or would hold does not reach the server inside an answer; the call ends, the session lives.

    Before 2026 an answer cannot wait for approval; since then it is part of a call, which can.
    """
    user, seen, held = User(word), talks.watch(), way == MODERN and word == SECRET
    async with talks.client(way, **user.callbacks) as client:
        await streams_open(talks, way)
        for tool in ("ask",) if held else ("ask", "sample", "roots"):
            assert ("ticket" in await refusal(client, tool)) == held
        user.word = "gold"
        assert not (await client.call_tool("ask", read_timeout_seconds=5)).is_error
    code = "declined" if way != MODERN else "held" if held else "denied"
    assert (await asyncio.to_thread(seen.record, code=code))["event"] in ("denied", "held")
    bodies = json.dumps([one.body for one in seen.arrived])
    assert word not in bodies
    assert "gold" in bodies
    assert SECRET not in json.dumps(seen.records)


@pytest.mark.parametrize("way", WAYS)
async def test_a_refusal_reaches_its_caller(talks: Talks, way: Way) -> None:
    """A refused and a held call end with the gateway's sentence, other methods with an error; the session lives."""
    async with talks.client(way) as client:
        for mark, sentence in ((FORBIDDEN, "rule forbidden"), (SECRET, "waits as ticket")):
            result = await client.call_tool("wait", {"seconds": 0, "mark": mark}, read_timeout_seconds=5)
            assert result.is_error
            assert sentence in str(result.content)
        with pytest.raises(MCPError, match="rule forbidden"):
            await asyncio.wait_for(client.read_resource(f"talk://{FORBIDDEN}"), 5)
        assert not (await client.call_tool("report", {"steps": 1})).is_error


@pytest.mark.parametrize("talks", ["regular"], indirect=True)  # in reverse mode a gateway leads to one server
async def test_replies_in_json(talks: Talks) -> None:
    """A server that replies in JSON is read whole and masked; what it asks comes on the session's own stream."""
    user = User()
    async with talks.client(LEGACY, upstream="terse", **user.callbacks) as client:
        await until(lambda: talks.terse.arrivals.read()[-1].method == "GET")
        await asyncio.sleep(0.1)
        assert MASKED in str((await client.call_tool("report", {"steps": 1})).content)
        result = await client.call_tool("roots", read_timeout_seconds=5)
    assert "gold" in str(result.content)
    assert MASKED in str(result.content)
    async with talks.client(MODERN, upstream="terse", **user.callbacks) as client:
        assert MASKED in str((await client.call_tool("ask")).content)


@pytest.mark.parametrize("way", WAYS)
async def test_calls_at_the_same_time(talks: Talks, way: Way) -> None:
    """Many calls of one session, each with its questions and progress: every answer is that of its call."""
    user = User()
    async with talks.client(way, **user.callbacks) as client:
        await streams_open(talks, way)
        steps = [
            client.call_tool("report", {"steps": n % 5 + 1, "pause": 0.02}, read_timeout_seconds=10) for n in range(10)
        ]
        asks = [client.call_tool(tool, read_timeout_seconds=10) for tool in ("ask", "sample", "roots") * 3]
        results = await asyncio.gather(*steps, *asks)
    said = [result.content[0].model_dump()["text"] for result in results]
    assert said[:10] == [f"{n % 5 + 1} steps {MASKED}" for n in range(10)]
    assert all("gold" in text for text in said[10:])


async def refusal(client: Client, tool: str) -> str:
    """What a caller is told whose answer to a tool's question was refused: by the gateway, or by the server."""
    try:
        result = await client.call_tool(tool, read_timeout_seconds=5)
    except MCPError as error:
        return error.message if error.code == -31403 else pytest.fail(str(error))
    assert result.is_error
    return str(result.content)


def test_a_stream_is_resumed_where_it_broke(talks: Talks) -> None:
    """A client whose connection broke in the middle of a call gets the rest, each event once, and the answer."""
    with talks.line() as line:
        line.begin()
        with line.open(call("report", id=5, steps=4, pause=0.1)) as stream:
            events = iter(stream)
            heard = [next(events), next(events)]
        heard += after(line, heard[-1].id, 5)
    assert [event.message["params"]["data"] for event in heard if event.message and "params" in event.message] == [
        f"log {step} of {MASKED}" for step in (1, 2, 3, 4)
    ]
    assert MASKED in json.dumps(heard[-1].message["result"])


def test_a_lost_answer_is_replayed(talks: Talks) -> None:
    """What was on its way when the connection broke comes again, the answer too: that is what event ids are for."""
    with talks.line() as line:
        line.begin()
        with line.open(call("report", id=6, steps=1)) as stream:
            heard = list(stream)
        assert heard[-1].message["result"]
        again = after(line, heard[0].id, 6)
    assert [event.message for event in again if event.message] == [event.message for event in heard if event.message]


def test_a_stream_is_resumed_after_a_restart(talks: Talks) -> None:
    """A call that was going on when the gateway was started anew is not lost: its stream is resumed to the answer."""
    with talks.line() as line:
        line.begin()
        with line.open(call("report", id=7, steps=1, pause=0.3)) as stream:
            first = next(iter(stream))
            talks.gateway.kill()
        talks.gateway.start()
        assert MASKED in json.dumps(after(line, first.id, 7)[-1].message["result"])


def test_a_stream_of_which_the_rest_is_withheld_ends(scene: Scene) -> None:
    """What cannot be masked ends the stream that it stands in, so that its client comes back instead of waiting."""
    news = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"level":"info","data":"%b"}}\n\n'
    with Line(scene.echo.url, scene.token(), scene.gateway.url) as line:
        scene.echo.answer(Reply.chunked([news % b"one", 0.1, news % b"two", 6.0]))
        with line.open() as stream:
            assert [next(iter(stream)).message["params"]["data"] for _ in range(2)] == ["one", "two"]
        scene.echo.answer(Reply.chunked([news % b"one", 0.1, b"data: oops\n\n", 6.0]))
        began = time.monotonic()
        with line.open() as stream:
            heard = [event.message for event in stream]
    assert "error" in heard[-1]
    assert time.monotonic() - began < 3


def after(line: Line, event_id: str | None, request_id: int) -> list[Heard]:
    """The events of a stream after this one, up to the answer to a request."""
    heard: list[Heard] = []
    assert event_id
    with line.open(Last_Event_ID=event_id) as stream:
        for event in stream:
            heard.append(event)
            if isinstance(event.message, dict) and (event.message.get("id") == request_id or "error" in event.message):
                break
    return heard


async def until(true: Any, patience: float = 5) -> None:
    """Waits until something is true."""
    deadline = asyncio.get_running_loop().time() + patience
    while not true():
        assert asyncio.get_running_loop().time() < deadline
        await asyncio.sleep(0.02)


async def streams_open(talks: Talks, way: Way) -> None:
    """Waits until the session's own stream, which the client opens meanwhile, is at the server."""
    if way == LEGACY:
        await until(lambda: talks.talker.arrivals.read()[-1].method == "GET")
        await asyncio.sleep(0.1)  # it has arrived, and is not being served yet


def straight(talks: Talks, session: str) -> int:
    """What the server itself answers to whoever knows the session's id."""
    headers = {"Mcp-Session-Id": session, "Accept": "application/json, text/event-stream"}
    with httpx.Client(trust_env=False) as http:
        return http.post(f"{talks.talker.origin}/mcp", json=request("ping", {}), headers=headers).status_code
