"""What every stage of the chain stands on: the edge at which whatever goes wrong becomes a refusal."""

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable

from mcp_sod.errors import Refusal, SodError, Unavailable
from mcp_sod.exchange import Exchange
from mcp_sod.gate import Flow, Gate, Passage
from mcp_sod.policy.patterns import LONG

logger = logging.getLogger("mcp_sod")


class Stage:
    """Base of the chain's stages: each sees only flows that no stage before it has refused."""

    def __init__(self, gate: Gate) -> None:
        """Stand at the gate."""
        self.gate = gate
        self.name = f"sod-{type(self).__name__.lower()}"


async def worked_out[**P, R](size: int, work: Callable[P, R], *args: P.args, **more: P.kwargs) -> R:
    """Return what the work comes to; that on a message of a long size (bytes) is done in a thread."""
    return await asyncio.to_thread(work, *args, **more) if size > LONG else work(*args, **more)


type Hook[S: Stage] = Callable[[S, Flow], Awaitable[None]]
type Step[S: Stage] = Callable[[S, Exchange, Flow], Awaitable[None]]


def on_request[S: Stage](step: Step[S]) -> Hook[S]:
    """Make a stage's step a hook for requests that are still undecided."""

    async def hook(stage: S, flow: Flow) -> None:
        passage = stage.gate.passage(flow)
        if passage.answer is None and not flow.error:
            await _guarded(stage, step, flow, passage)

    return hook


def on_reply[S: Stage](step: Step[S]) -> Hook[S]:
    """Make a stage's step a hook for replies of upstreams that no stage has withheld."""
    return _on_reply(step, head=False)


def on_reply_head[S: Stage](step: Step[S]) -> Hook[S]:
    """Make a stage's step a hook for the heads of such replies, before their bodies come."""
    return _on_reply(step, head=True)


def _on_reply[S: Stage](step: Step[S], *, head: bool) -> Hook[S]:
    async def hook(stage: S, flow: Flow) -> None:
        passage = stage.gate.passage(flow)
        if passage.sent and passage.answer is None:
            await _guarded(stage, step, flow, passage, head=head)

    return hook


async def _guarded[S: Stage](stage: S, step: Step[S], flow: Flow, passage: Passage, *, head: bool = False) -> None:
    """Run a step at the chain's edge: whatever goes wrong in it is a refusal."""
    try:
        await step(stage, passage.exchange or stage.gate.exchange(flow), flow)
    except Refusal as refusal:
        await stage.gate.refuse(flow, refusal, head=head)
    except SodError as error:
        await stage.gate.refuse(flow, Unavailable(error.sentence, hint=error.hint, operator=error.operator), head=head)
    except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001 (the chain's edge: everything unforeseen denies)
        where = traceback.extract_tb(error.__traceback__)[-1]
        logger.error("%s failed: %s at %s:%s", stage.name, type(error).__name__, where.filename, where.lineno)  # noqa: TRY400
        await stage.gate.refuse(flow, Unavailable("The gateway failed on this message and refused it."), head=head)
