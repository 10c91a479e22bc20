"""The script breaks, vanishes or is swapped while mitmdump runs, or a stranger in it meddles: the gate stays shut."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.world.echo import Reply
from tests.world.gateway import SCRIPT
from tests.world.process import ProcessFailedError
from tests.world.scene import GOOD, GOOD_EVENTS, SECRET, Scene, passed

GOOD_SCRIPT = SCRIPT.read_text()
BAD_SCRIPTS = {
    "syntax-error": "addons = [",
    "raises": "raise RuntimeError('broken')",
    "no-addons": "addons = []",
    "missing-import": "from mcp_sod.chains import Chain\naddons = [Chain()]",
    "another-addon": "class Hello:\n    def request(self, flow):\n        flow.response = None\naddons = [Hello()]",
}

# An addon that does what a test orders, in the same script, before and after the chain.
MEDDLER = """
import os
from pathlib import Path

from mitmproxy import http
from mcp_sod.chain import Chain

class Before:
    def response(self, flow):
        flow.metadata["raw"] = flow.response.raw_content

class After:
    def request(self, flow): meddle("request", flow)
    def responseheaders(self, flow): meddle("responseheaders", flow)
    def response(self, flow): meddle("response", flow)

def meddle(hook, flow):
    ordered, _, statement = Path(os.environ["SOD_TEST_MEDDLE"]).read_text().partition(": ")
    if ordered == hook:
        exec(statement, globals(), {"flow": flow})

addons = [Before(), Chain(), After()]
"""

MEDDLING_REQUESTS = [
    "flow.request.raw_content = flow.request.raw_content.replace(b'get_customer', b'drop_database')",
    "flow.request.raw_content += b' '",
    "flow.request.host = 'localhost'",
    "flow.request.port = 9",
    "flow.request.scheme = 'https'",
    "flow.request.path = '/admin'",
    "flow.request.method = 'PUT'",
    "flow.request.authority = 'elsewhere.example'",
    "flow.request.headers['authorization'] = 'Bearer stolen'",
    "flow.request.headers['host'] = 'elsewhere.example'",
    "flow.request.headers.add('content-type', 'text/plain')",
    "flow.request.trailers = http.Headers(a='b')",
    "flow.request = http.Request.make('POST', 'http://127.0.0.1:9/')",
    "flow.is_replay = 'request'",
]
MEDDLING_REPLIES = [
    "flow.response.raw_content = flow.metadata['raw']",
    "flow.response = http.Response.make(200, flow.metadata['raw'])",
    "flow.response.headers['x-note'] = flow.metadata['raw'][-30:].decode()",
    "flow.response.status_code = 201",
    "flow.response.reason = flow.metadata['raw'][-30:].decode()",
]
MEDDLING_STREAMS = ["flow.response.stream = True", "flow.response.stream = lambda chunk: chunk"]
MEDDLING_HEADS = ["flow.response.headers['set-cookie'] = 'a=b'", "flow.response.status_code = 201"]


@pytest.fixture(scope="module")
def swapped(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway whose script a test may swap."""
    with Scene(tmp_path_factory.mktemp("swapped"), script=GOOD_SCRIPT) as scene:
        yield scene


@pytest.fixture(scope="module")
def meddled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway with a meddler in its script."""
    folder = tmp_path_factory.mktemp("meddled")
    _order(folder, "")
    with Scene(folder, script=MEDDLER, env={"SOD_TEST_MEDDLE": str(folder / "order")}) as scene:
        yield scene


def _order(folder: Path, statement: str) -> None:
    (folder / "order").write_text(statement)


def _meddle(scene: Scene, statement: str) -> None:
    _order(scene.gateway.folder.parent, statement)


def _swap(scene: Scene, script: str) -> None:
    """Writes another script, and waits until mitmdump has seen it."""
    loaded = scene.gateway.log.count("Loading script")
    scene.gateway.script.write_text(script)
    _wait(scene, "Loading script", loaded + 1)


def _wait(scene: Scene, text: str, times: int) -> None:
    deadline = time.monotonic() + 10
    while scene.gateway.log.count(text) < times:
        assert time.monotonic() < deadline, scene.gateway.log
        time.sleep(0.02)
    time.sleep(0.2)  # it says so first, and does it then


@pytest.mark.parametrize("name", BAD_SCRIPTS)
def test_a_script_that_breaks_while_running_shuts_the_gate(swapped: Scene, name: str) -> None:
    """With a script without the chain everything is refused, on record; with the good one back, calls pass."""
    assert passed(swapped.call())
    _swap(swapped, BAD_SCRIPTS[name])
    seen = swapped.watch()
    reply = swapped.call()
    assert (reply.status_code, seen.connections) == (503, 0)
    assert seen.record(event="denied", code="unavailable")
    _swap(swapped, GOOD_SCRIPT)
    assert passed(swapped.call())
    assert passed(swapped.call(reply=GOOD_EVENTS))


def test_a_script_that_vanishes_while_running_shuts_the_gate(tmp_path: Path) -> None:
    """With no script at all everything is refused, on record; after a restart with it, calls pass."""
    with Scene(tmp_path, script=GOOD_SCRIPT) as scene:
        assert passed(scene.call())
        scene.gateway.script.unlink()
        _wait(scene, "Removing script", 1)
        seen = scene.watch()
        assert (scene.call().status_code, seen.connections) == (503, 0)
        assert seen.record(event="denied", code="unavailable")
        scene.gateway.script.write_text(GOOD_SCRIPT)
        scene.gateway.restart()
        assert passed(scene.call())


@pytest.mark.parametrize("name", ["syntax-error", "raises", "missing-import"])
def test_a_script_that_is_broken_at_the_start_ends_mitmdump(tmp_path: Path, name: str) -> None:
    """Mitmdump does not run without its policy: a broken script is exit status 1, before any port accepts."""
    scene = Scene(tmp_path, script=BAD_SCRIPTS[name])
    with pytest.raises(ProcessFailedError, match="ended with status 1"), scene:
        pass


@pytest.mark.parametrize("statement", MEDDLING_REQUESTS)
def test_what_leaves_is_what_was_released(meddled: Scene, statement: str) -> None:
    """A request that another addon changed after its release does not leave, and that is on record."""
    _meddle(meddled, "")
    assert passed(meddled.call())
    _meddle(meddled, f"request: {statement}")
    seen = meddled.watch()
    reply = meddled.call()
    assert '"unavailable"' in reply.text
    assert seen.connections == 0
    assert seen.record(event="denied", code="unavailable")


@pytest.mark.parametrize("tool", ["drop_database", "get_customer"])
def test_nobody_else_takes_a_refusal_off(meddled: Scene, tool: str) -> None:
    """An addon that removes the refusal of a denied call does not open the gate; an allowed call still passes."""
    _meddle(meddled, "request: flow.response = None")
    seen = meddled.watch()
    reply = meddled.call(tool)
    assert (passed(reply), seen.connections) == ((True, 1) if tool == "get_customer" else (False, 0))


@pytest.mark.parametrize("statement", MEDDLING_REPLIES)
def test_what_is_delivered_is_what_was_masked(meddled: Scene, statement: str) -> None:
    """A reply that another addon changed after it was masked is not delivered, and that is on record."""
    _meddle(meddled, "")
    assert passed(meddled.call())
    _meddle(meddled, f"response: {statement}")
    seen = meddled.watch()
    reply = meddled.call()
    assert SECRET not in str(reply.headers) + reply.text + reply.reason_phrase
    assert '"withheld"' in reply.text
    assert seen.record(code="withheld")


@pytest.mark.parametrize("statement", MEDDLING_STREAMS)
@pytest.mark.parametrize("reply", [GOOD, GOOD_EVENTS], ids=["json", "events"])
def test_nothing_streams_past_the_masks(meddled: Scene, statement: str, reply: Reply) -> None:
    """An addon that lays its own stream over the masks gets nothing raw delivered."""
    _meddle(meddled, "")
    assert passed(meddled.call(reply=reply))
    _meddle(meddled, f"responseheaders: {statement}")
    seen = meddled.watch()
    assert SECRET not in meddled.call(reply=reply).text
    assert {"replied", "withheld"} & set(seen.events())


@pytest.mark.parametrize("statement", MEDDLING_HEADS)
def test_a_stream_begins_with_the_head_that_was_masked(meddled: Scene, statement: str) -> None:
    """A stream whose head another addon changed is not delivered, and that is on record."""
    _meddle(meddled, "")
    assert passed(meddled.call(reply=GOOD_EVENTS))
    _meddle(meddled, f"responseheaders: {statement}")
    seen = meddled.watch()
    reply = meddled.call(reply=GOOD_EVENTS)
    assert '"withheld"' in reply.text
    assert "set-cookie" not in reply.headers
    assert seen.record(code="withheld")
