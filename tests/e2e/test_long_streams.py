"""Long and slow event streams: masked as they pass, at once, in constant memory, wherever they are cut."""

import json
import socket
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path

import pytest
import yaml

from tests.world.client import call_body, call_headers
from tests.world.echo import Reply
from tests.world.scene import MASKED, SECRET, Scene

MIB = 1 << 20
EVENTS = 10_000
WARM_UP = 2_000
LEAK = 4 * MIB  # 8,000 events more are 8 MB more: what keeps only half of them is seen
AT_ONCE = 0.05  # seconds
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
JSON_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
LAST = b"0\r\n\r\n"
PAD = "nothing to see here, " * 40
BODY = call_body("get_customer", {})
RESULT = {"content": [{"type": "text", "text": "done"}]}


def note(said: str, number: int = 0) -> bytes:
    """A log message of the server, as an event."""
    params = {"level": "info", "logger": str(number), "data": said}
    message = {"jsonrpc": "2.0", "method": "notifications/message", "params": params}
    return f"event: message\ndata: {json.dumps(message, ensure_ascii=False)}\n\n".encode()


def answer(result: object = RESULT) -> bytes:
    """The answer to the call."""
    return json.dumps({"jsonrpc": "2.0", "id": 1, "result": result}).encode()


ANSWER = b"event: message\ndata: " + answer() + b"\n\n"


def chunk(piece: bytes) -> bytes:
    """One chunk of a chunked body."""
    return b"%x\r\n%b\r\n" % (len(piece), piece)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway that would read replies of 32 MiB whole."""
    with Scene(tmp_path_factory.mktemp("streams"), limits={"body": "32MiB"}) as running:
        yield running


def peak(pid: int) -> int:
    """The most memory, in bytes, that the process ever had resident (`VmHWM`)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:"))


def streamed(scene: Scene, number: int) -> int:
    """Leads so many events of about 1 KB through, looks at each, and gives the gateway's peak after them."""
    notes = [note(f"{PAD}{SECRET if n % 100 == 0 else ''}", n) for n in range(number)]
    scene.echo.answer(Reply.chunked([*notes, ANSWER]))
    headers = call_headers("get_customer", scene.token())
    with scene.http.stream("POST", scene.echo.url, json=BODY, headers=headers, timeout=60) as reply:
        assert reply.status_code == 200
        said = [json.loads(line[6:]) for line in reply.iter_lines() if line.startswith("data: ")]
    assert said.pop()["result"] == RESULT
    assert [(item["params"]["logger"], item["params"]["data"]) for item in said] == [
        (str(n), f"{PAD}{MASKED if n % 100 == 0 else ''}") for n in range(number)
    ]
    return peak(scene.gateway.pid)


def test_ten_thousand_events_pass_masked_in_constant_memory(scene: Scene) -> None:
    """Every event arrives, in order, masked, and 10,000 cost no more memory than 2,000; the same read whole does."""
    streamed(scene, WARM_UP)
    few = streamed(scene, WARM_UP)
    many = streamed(scene, EVENTS)
    assert many - few < LEAK
    size = len(note(PAD)) * (EVENTS - WARM_UP)
    assert size > LEAK
    control = Reply.whole(answer({"content": [{"type": "text", "text": "x" * size}]}))
    assert scene.call(reply=control).status_code == 200
    assert peak(scene.gateway.pid) - many > LEAK


class Talk:
    """A call and its reply, upstream and client in one hand: nothing here waits for a thread, so one clock does."""

    def __init__(self, scene: Scene, gateway_port: int, listener: socket.socket) -> None:
        self._scene = scene
        self._listener = listener
        self._upstream: socket.socket | None = None
        self._client = HTTPConnection("127.0.0.1", gateway_port, timeout=5)
        self._reply: HTTPResponse | None = None

    def close(self) -> None:
        """Hangs up on both sides."""
        self._client.close()
        if self._upstream:
            self._upstream.close()

    def ask(self) -> None:
        """Sends the call, and reads it at the upstream; the connections stay for further calls."""
        url = f"http://127.0.0.1:{self._listener.getsockname()[1]}/mcp"
        headers = call_headers("get_customer", self._scene.token())
        self._client.request("POST", url, json.dumps(BODY).encode(), headers)
        if self._upstream is None:
            self._upstream, _ = self._listener.accept()
            self._upstream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._upstream.settimeout(5)
        came = b""
        while not came.endswith(b"}"):
            came += self._upstream.recv(65536)

    def say(self, *pieces: bytes) -> float:
        """Sends pieces of the reply, in one packet; gives the moment before."""
        assert self._upstream
        began = time.perf_counter()
        self._upstream.sendall(b"".join(pieces))
        return began

    def head(self) -> HTTPResponse:
        """The reply, once its head is here."""
        if self._reply is None:
            self._reply = self._client.getresponse()
            assert self._reply.status == 200
        return self._reply

    def hear(self) -> bytes:
        """Whatever of the reply's body arrives next."""
        return self.head().read1()

    def until(self, wanted: bytes) -> bytes:
        """What arrives, up to the end of what is wanted."""
        came = b""
        while wanted not in came:
            more = self.hear()
            assert more, f"the reply ended: {came!r}"
            came += more
        return came

    def silent(self, seconds: float) -> bool:
        """Whether nothing arrives for so long."""
        assert self._client.sock
        self._client.sock.settimeout(seconds)
        try:
            return not self._client.sock.recv(1, socket.MSG_PEEK)
        except TimeoutError:
            return True
        finally:
            self._client.sock.settimeout(5)

    def rest(self) -> bytes:
        """The reply to its end, after which there may be another call."""
        came = b""
        while more := self.hear():
            came += more
        self._reply = None
        return came


@contextmanager
def talk(scene: Scene, listener: socket.socket, *, direct: bool = False) -> Iterator[Talk]:
    """A client and its upstream, through the gateway or without it."""
    talking = Talk(scene, listener.getsockname()[1] if direct else scene.gateway.port, listener)
    try:
        yield talking
    finally:
        talking.close()


@pytest.fixture(scope="module")
def listener() -> Iterator[socket.socket]:
    """Where the upstream of a talk listens."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        listening.settimeout(5)
        yield listening


@pytest.fixture(scope="module")
def slow(tmp_path_factory: pytest.TempPathFactory, listener: socket.socket) -> Iterator[Scene]:
    """A gateway before that upstream."""
    scene = Scene(tmp_path_factory.mktemp("slow"))
    file = scene.gateway.policy_folder / "gateway.yaml"
    settings = yaml.safe_load(file.read_text())
    settings["upstreams"]["tools"]["url"] = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
    scene.gateway.write_policy({file.name: settings})
    with scene:
        yield scene


def first_byte(talking: Talk) -> float:
    """Seconds between the upstream's first byte, head and all, and the first byte of the body at the client."""
    talking.ask()
    began = talking.say(HEAD, chunk(note("first")))
    talking.hear()
    took = time.perf_counter() - began
    talking.say(LAST)
    talking.rest()
    return took


def test_the_first_byte_is_not_held(slow: Scene, listener: socket.socket) -> None:
    """The client has the first byte within 50 ms of the upstream's; a JSON reply, which is read whole, is held."""
    with talk(slow, listener, direct=True) as straight, talk(slow, listener) as through:
        assert statistics.median(first_byte(straight) for _ in range(15)) < AT_ONCE / 5
        assert statistics.median(first_byte(through) for _ in range(15)) < AT_ONCE
        through.ask()
        through.say(JSON_HEAD % len(answer()), answer()[:-1])
        assert through.silent(4 * AT_ONCE)
        through.say(answer()[-1:])
        assert through.rest() == answer()


def test_an_event_does_not_wait_for_the_next(slow: Scene, listener: socket.socket) -> None:
    """Each event is with the client before the next is sent, although none follows; half an event is not."""
    with talk(slow, listener) as talking:
        talking.ask()
        talking.say(HEAD)
        talking.head()
        for number in range(30):
            event = note(SECRET, number)
            talking.say(chunk(event[:-1]))
            if number % 10 == 0:
                assert talking.silent(AT_ONCE)
            began = talking.say(chunk(event[-1:]))
            assert talking.until(b"\n\n") == note(MASKED, number)
            assert time.perf_counter() - began < 20 * AT_ONCE  # the machine may be busy; the next event never comes
        talking.say(chunk(ANSWER), LAST)
        assert talking.rest() == ANSWER


def test_a_secret_cut_anywhere_in_two_is_masked(slow: Scene, listener: socket.socket) -> None:
    """For every place in an event: what is before it has been through the gateway when the rest comes; all masked."""
    event, before = note(f"é {SECRET}."), note("before")
    with talk(slow, listener) as talking:
        for cut in range(1, len(event)):
            talking.ask()
            talking.say(HEAD, chunk(before + event[:cut]))
            came = talking.until(before)  # so the gateway has read the first part
            talking.say(chunk(event[cut:]), LAST)
            came += talking.rest()
            assert came == before + note(f"é {MASKED}."), f"cut at {cut}"


def test_nothing_is_masked_that_is_no_secret(slow: Scene, listener: socket.socket) -> None:
    """The control: whose role sees raw values gets the very events that came."""
    event = note(f"é {SECRET}.")
    with talk(slow, listener) as talking:
        for said in (note("no secret"), note(f"{SECRET[:-1]} is too short"), event):
            talking.ask()
            talking.say(HEAD, chunk(said), LAST)
            assert (talking.rest() == said) == (said != event)
