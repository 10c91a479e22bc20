"""mitmproxy forwards what a failing addon was looking at; this gateway does not, whichever stage fails, however."""

import contextlib
from collections.abc import Iterator

import httpx
import pytest

from tests.world.receipts import PAYLOAD, Post, outcome, said, streamed, whole, with_viewers
from tests.world.sabotage import SCRIPT, Orders
from tests.world.scene import GOOD, GOOD_EVENTS, SECRET, STEWARD, Scene, passed

STAGES = [
    "Intake", "Identity", "Masking", "Roles", "Recipient", "Separation", "Risk", "Approval", "Claims", "Delivery",
    "Audit", "Release",
    "Audit", "Release",
]  # fmt: skip
FAULTS = [
    "step raise",  # inside the step, where the chain's own edge stands
    "step halt",
    "step options",
    "step cancel",
    "late raise",  # inside the step, its work done
    "hook raise",  # past the edge, where only mitmproxy catches it
    "hook halt",
    "hook options",
    "hook cancel",
    "late-hook raise",
    "late-hook halt",
    "sync raise",  # not even a coroutine
    "sync halt",
    "sync options",
]
SKIPS = [
    "step skip",  # the stage is asked, and leaves its work undone
    "hook skip",  # the hook returns at once
    "sync skip",
    "gone skip",  # the stage takes itself out of the chain
]


@pytest.fixture(scope="module")
def orders(tmp_path_factory: pytest.TempPathFactory) -> Orders:
    """Where sabotage is ordered."""
    return Orders(tmp_path_factory.mktemp("sabotage") / "order")


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, orders: Orders) -> Iterator[Scene]:
    """A gateway whose stages can be broken."""
    changed = {"script": SCRIPT, "env": orders.environment, **with_viewers()}
    with Scene(tmp_path_factory.mktemp("scene"), **changed) as running:
        yield running


@pytest.fixture(autouse=True)
def control(scene: Scene, orders: Orders) -> Iterator[None]:
    """After each sabotage, the same gateway with nothing broken passes the same calls."""
    yield
    orders.give("")
    for reply in (GOOD, GOOD_EVENTS):
        assert passed(scene.call(reply=reply))


# After Release's work is done its fault changes nothing: the call was released by every stage, and on record.
REQUEST_FAULTS = [
    (name, fault)
    for name in STAGES
    for fault in FAULTS
    if not (name == "Release" and fault.startswith("late-hook"))
]  # fmt: skip


@pytest.mark.parametrize(("name", "fault"), REQUEST_FAULTS)
def test_a_stage_that_fails_forwards_nothing(scene: Scene, orders: Orders, name: str, fault: str) -> None:
    """An exception in any stage's hook for requests, caught at our edge or not, refuses the call, on record."""
    refused(scene, orders, f"{name}.request {fault}")


@pytest.mark.parametrize("skip", SKIPS)
@pytest.mark.parametrize("name", STAGES)
def test_a_stage_that_is_skipped_forwards_nothing(scene: Scene, orders: Orders, name: str, skip: str) -> None:
    """A stage that returns without its work, or is not there, is missed by the gate: the call is refused, on record."""
    refused(scene, orders, f"{name}.request {skip}")


def refused(scene: Scene, orders: Orders, order: str) -> None:
    """Gives the order, and sees a call refused: nothing goes upstream, and why is on record."""
    seen = scene.watch()
    orders.give(order)
    reply = scene.call()
    assert orders.struck
    assert seen.connections == 0
    assert SECRET not in reply.text
    assert '"unavailable"' in reply.text
    assert seen.record(code="unavailable")["event"] == "denied"


# A fault after all of a stage's work changes nothing, unless it keeps the stages behind it from theirs.
REPLY_FAULTS = [
    (point, fault)
    for point in ("Intake.responseheaders", "Masking.response", "Claims.response", "Audit.response")
    for fault in (*FAULTS, *SKIPS)
    if point in ("Masking.response", "Claims.response") or not fault.startswith("late-hook")
    # Claims that are skipped stay open, which keeps people from more, not from less.
    if point != "Claims.response" or fault not in SKIPS
]


@pytest.mark.parametrize(("point", "fault"), REPLY_FAULTS)
def test_a_stage_that_fails_delivers_nothing(scene: Scene, orders: Orders, point: str, fault: str) -> None:
    """When any stage's hook for replies fails or is skipped, nobody gets anything of the reply, on record."""
    seen = scene.watch()
    orders.give(f"{point} {fault}")
    reply = scene.call(groups=STEWARD)  # for whom it would be raw
    assert orders.struck
    assert SECRET not in reply.text
    assert {record.get("code") for record in seen.records} & {"withheld", "unavailable"}


@pytest.mark.parametrize("fault", [*FAULTS, *SKIPS])
@pytest.mark.parametrize(
    "point", ["Intake.responseheaders", "Masking.responseheaders", "Claims.response", "Audit.response"]
)
def test_a_stage_that_fails_streams_nothing_raw(scene: Scene, orders: Orders, point: str, fault: str) -> None:
    """When a hook fails on a streamed reply, what reaches the client is masked or nothing, and it is on record."""
    seen = scene.watch()
    orders.give(f"{point} {fault}")
    with contextlib.suppress(httpx.RemoteProtocolError):
        assert SECRET not in scene.call(reply=GOOD_EVENTS).text
    assert orders.struck
    assert {"replied", "withheld", "denied"} & set(seen.events())


@pytest.mark.parametrize("fault", ["raise", "halt"])
def test_masks_that_fail_on_a_stream_deliver_nothing(scene: Scene, orders: Orders, fault: str) -> None:
    """An exception in the function through which a reply streams ends the reply: nothing raw, and on record."""
    seen = scene.watch()
    orders.give(f"Stream call {fault}")
    with contextlib.suppress(httpx.HTTPError):
        assert SECRET not in scene.call(reply=GOOD_EVENTS, patience=0.5).text
    assert orders.struck
    assert seen.record(event="replied")


@pytest.mark.parametrize("fault", [*FAULTS, *SKIPS])
@pytest.mark.parametrize("point", ["Masking.response", "Delivery.response"])
def test_a_stage_that_fails_gives_a_sender_nothing_of_a_viewers_result(
    scene: Scene, orders: Orders, point: str, fault: str
) -> None:
    """When a hook fails on a reply that goes to someone else, its sender gets nothing of it, and it is on record."""
    seen, post = scene.watch(), Post(scene)
    orders.give(f"{point} {fault}")
    reply = post.send(whole(outcome()), groups=STEWARD)
    struck = orders.struck
    orders.give("")
    assert struck
    assert PAYLOAD not in reply.text
    assert "replied" in seen.events() or {record.get("code") for record in seen.records} & {"withheld", "unavailable"}
    assert PAYLOAD in post.collect(post.receipt()).text


@pytest.mark.parametrize("fault", [*FAULTS, *SKIPS])
@pytest.mark.parametrize("point", ["Masking.responseheaders", "Delivery.response"])
def test_a_stage_that_fails_streams_nothing_of_a_viewers_result(
    scene: Scene, orders: Orders, point: str, fault: str
) -> None:
    """The same for a reply that is streamed; where it was not kept, the viewer is not promised it for ever."""
    seen, post = scene.watch(), Post(scene)
    orders.give(f"{point} {fault}")
    with contextlib.suppress(httpx.RemoteProtocolError):
        assert PAYLOAD not in post.send(streamed(outcome()), groups=STEWARD).text
    struck = orders.struck
    orders.give("")
    assert struck
    receipt = seen.record(event="forwarded")["receipt"]
    listed = post.listed(receipt, sub="ada", groups=STEWARD)
    assert listed is not None
    if listed["state"] != "kept":
        assert seen.record(event="lost", receipt=receipt)
    assert said(post.collect(post.receipt()))["result"]["isError"] is False


@pytest.mark.parametrize("fault", ["raise", "halt"])
def test_masks_that_fail_on_a_stream_give_a_sender_nothing(scene: Scene, orders: Orders, fault: str) -> None:
    """An exception in the function through which a receipt streams gives nothing of the result, and is on record."""
    seen, post = scene.watch(), Post(scene)
    orders.give(f"Stream call {fault}")
    with contextlib.suppress(httpx.HTTPError):
        assert PAYLOAD not in post.send(streamed(outcome())).text
    assert orders.struck
    assert seen.record(event="lost")
