"""Streams that could last for ever end when what they were judged by does, on both sides, and cleanly."""

import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.world.echo import SSE_TYPE, Reply
from tests.world.scene import GOOD, SECRET, Scene, passed

NOTE = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{}}\n\n'
TICK = 0.2
TICKS = 60  # twelve seconds, far longer than any stream here may last


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """A gateway before an upstream that never stops to talk."""
    with Scene(tmp_path_factory.mktemp("lasting")) as running:
        yield running


def listen(scene: Scene, reply: Reply, seconds: float, **token: Any) -> tuple[bytes, bool, float]:
    """What a GET stream gives within some seconds, whether it ended by itself, and when it did."""
    scene.echo.answer(reply)
    headers = {"Authorization": f"Bearer {scene.token(**token)}", "Accept": "text/event-stream"}
    began, came = time.monotonic(), b""
    with scene.http.stream("GET", scene.echo.url, headers=headers) as stream:
        assert stream.status_code == 200
        try:
            for piece in stream.iter_bytes():
                came += piece
                if time.monotonic() - began > seconds:
                    return came, False, seconds
        except httpx.RemoteProtocolError:
            pytest.fail("the stream broke off instead of ending")
    return came, True, time.monotonic() - began


def endless(*first: bytes) -> Reply:
    """A stream with these events, and then one now and then."""
    return Reply.chunked([*first, *[part for _ in range(TICKS) for part in (NOTE, TICK)]], headers=[SSE_TYPE])


def silent() -> Reply:
    """A stream with one event, after which nothing is said for long."""
    return Reply.chunked([NOTE, TICK * TICKS], headers=[SSE_TYPE])


def test_a_stream_goes_on_while_it_may(scene: Scene) -> None:
    """The control: nothing ends it."""
    came, ended, _ = listen(scene, endless(), 4)
    assert not ended
    assert came.count(b"notifications/message") > 10


@pytest.mark.parametrize("reply", [endless(), silent()], ids=["talking", "silent"])
def test_a_stream_ends_with_its_token(scene: Scene, reply: Reply) -> None:
    """When the caller's token expires, also while nothing is said, the stream ends and the record says why."""
    seen = scene.watch()
    _, ended, after = listen(scene, reply, 8, lifetime=-27)  # of the thirty seconds of leeway three are left
    assert ended
    assert 1 < after < 5
    assert seen.record(event="replied", code="ended")["reason"] == "The token of whoever listens has expired."
    assert passed(scene.call())


def test_a_stream_ends_with_its_policy(scene: Scene) -> None:
    """A changed policy is in force for open streams as well: their clients come back and are judged anew."""
    seen = scene.watch()
    rules = scene.gateway.policy_folder / "rules.yaml"
    before = rules.read_text()
    scene.echo.answer(endless())
    headers = {"Authorization": f"Bearer {scene.token()}"}
    with scene.http.stream("GET", scene.echo.url, headers=headers) as stream:
        pieces = stream.iter_bytes()
        next(pieces)
        rules.write_text(before + "\n# changed\n")
        began = time.monotonic()
        for _ in pieces:
            pass
    assert time.monotonic() - began < 5
    assert seen.record(event="replied", code="ended")["reason"] == "The policy has changed."
    assert passed(scene.call())


def test_a_stream_ends_where_its_rest_is_withheld(scene: Scene) -> None:
    """After something that cannot be delivered the client is told, and neither side is kept waiting."""
    seen = scene.watch()
    bad = b'data: {"jsonrpc":"2.0","method":"notifications/message","params":{"%s":1}}\n\n' % SECRET.encode()
    came, ended, after = listen(scene, endless(NOTE, bad), 8)
    assert ended
    assert after < 2
    assert b"-31502" in came
    assert SECRET.encode() not in came
    assert seen.record(event="replied", code="withheld")
    scene.echo.answer(GOOD)
    assert passed(scene.call())
