"""A gateway's audit without the gateway: a journal, a shipper, and a store with a few batches in it."""

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from mcp_sod.audit.journal import Journal
from mcp_sod.audit.shipper import Shipper
from mcp_sod.audit.store import Store

START = 1_767_225_600.0  # 2026-01-01T00:00:00Z


def open_journal(state: Path, gateway: str = "gw-1", durability: Literal["process", "power"] = "process") -> Journal:
    """The journal of a state folder, laid out as the gateway does, with a clock that starts with the year."""
    ticks = iter(range(1_000_000_000))
    return Journal.open(
        state / "spool",
        gateway,
        key=state / "keys" / "audit.key",
        durability=durability,
        clock=lambda: START + next(ticks),
    )


async def log_of(state: Path, store: Store, sizes: Sequence[int], gateway: str = "gw-1") -> str:
    """Ships one batch of so many records for each size; gives the public key.

    Every record has an `event` of `denied` or `forwarded`, a `ref`, and a principal.
    """
    journal = open_journal(state, gateway)
    shipper = Shipper(journal, store)
    for size in sizes:
        for _ in range(size):
            seq = journal.size
            await journal.write(
                "forwarded" if seq % 2 else "denied", ref=f"r-{seq}", principal={"subject": "alice"}, text="é\n<b>"
            )
        while shipper.backlog:  # after a crash there may be more than one farewell takes
            await shipper.flush()
    await journal.close()
    return journal.public_key.read_text()


def make_log(state: Path, store: Store, sizes: Sequence[int], gateway: str = "gw-1") -> str:
    """`log_of` for tests without a loop."""
    return asyncio.run(log_of(state, store, sizes, gateway))
