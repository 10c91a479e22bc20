"""Breaks one hook of one stage, in the way and at the moment that a test orders.

A gateway that loads `SCRIPT` runs the real chain, every hook of it wrapped. The order is a line in a file, such as
`Risk.request step raise`; each strike is noted in a second file, so that a test can tell that it happened.
"""

import asyncio
import inspect
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from mcp_sod import stage
from mcp_sod.chain import Chain, stages
from mcp_sod.masking.reply import Stream
from mitmproxy import ctx
from mitmproxy.exceptions import AddonHalt, OptionsError

SCRIPT = """
from mcp_sod.chain import Chain
from tests.world.sabotage import Saboteur

addons = [Saboteur(), Chain()]
"""
ORDER = "SOD_TEST_SABOTAGE"
_EDGES = {"request": stage.on_request, "responseheaders": stage.on_reply_head, "response": stage.on_reply}
_FAULTS = {
    "raise": RuntimeError, "halt": AddonHalt, "options": OptionsError, "cancel": asyncio.CancelledError,
}  # fmt: skip

type Hook = Callable[[Any, Any], Awaitable[None]]
type Step = Callable[[Any, Any, Any], Awaitable[None]]


class Orders:
    """The test's side: what is to be broken next, and what was."""

    def __init__(self, file: Path) -> None:
        self.file = file
        self.struck_file = file.with_suffix(".struck")

    @property
    def environment(self) -> dict[str, str | None]:
        """What the gateway's environment must hold."""
        return {ORDER: str(self.file), "PYTHONPATH": str(Path(__file__).parents[2])}

    def give(self, order: str) -> None:
        """Orders this from now on; nothing, if it is empty."""
        self.struck_file.unlink(missing_ok=True)
        self.file.write_text(order)

    @property
    def struck(self) -> bool:
        """Whether the order was carried out since it was given."""
        return self.struck_file.exists()


class Saboteur:
    """The addon before the chain: wraps every hook when it is made, and mends the chain before each request."""

    def __init__(self) -> None:
        for kind in stage.Stage.__subclasses__():
            for hook, edge in _EDGES.items():
                if hook in vars(kind):
                    _wrap(kind, hook, edge)
        _wrap_stream()

    def requestheaders(self, _flow: object) -> None:
        """Puts back a stage that took itself out."""
        chain: Chain = ctx.master.addons.get(Chain.name)  # type: ignore[no-untyped-call]
        gate = ctx.master.addons.get("sod-gate")  # type: ignore[no-untyped-call]
        if len(chain.stages) < len(stage.Stage.__subclasses__()):
            chain.stages = stages(gate, gate.runtime)


def _wrap(kind: type[stage.Stage], name: str, edge: Callable[[Step], Hook]) -> None:
    original: Hook = vars(kind)[name]
    step: Step = inspect.getclosurevars(original).nonlocals["step"]
    point = f"{kind.__name__}.{name}"

    async def in_step(self: stage.Stage, exchange: object, flow: object) -> None:
        if not _struck(point, "step"):
            await step(self, exchange, flow)

    async def after_step(self: stage.Stage, exchange: object, flow: object) -> None:
        await in_step(self, exchange, flow)
        _struck(point, "late")

    guarded = edge(after_step)

    async def past_the_edge(self: stage.Stage, flow: object) -> None:
        if not _struck(point, "hook"):
            await guarded(self, flow)
        _struck(point, "late-hook")

    def not_even_async(self: stage.Stage, flow: object) -> Awaitable[None] | None:
        if _struck(point, "gone"):
            ctx.master.addons.get(Chain.name).stages.remove(self)  # type: ignore[no-untyped-call]
            return None
        return None if _struck(point, "sync") else past_the_edge(self, flow)

    setattr(kind, name, not_even_async)


def _wrap_stream() -> None:
    original = Stream.__call__

    def stream(self: Stream, chunk: bytes) -> list[bytes]:
        _struck("Stream", "call")
        return original(self, chunk)

    Stream.__call__ = stream  # type: ignore[method-assign]


def _struck(point: str, where: str) -> bool:
    """Carry out the order if it is for this place: raise, or return True, which means: leave the work undone."""
    file = Path(os.environ[ORDER])
    ordered = file.read_text().split() if file.exists() else []
    if ordered[:2] != [point, where]:
        return False
    with file.with_suffix(".struck").open("a") as struck:
        struck.write(".")
    if ordered[2] in _FAULTS:
        raise _FAULTS[ordered[2]](f"sabotage of {point}")
    return True
