"""A process that writes records as fast as it can and says of each that it is durable, until it is killed."""

import asyncio
import sys
from pathlib import Path

from mcp_sod.audit.folder import FolderStore
from mcp_sod.audit.shipper import Shipper

from tests.world.records import open_journal


async def main(state: Path, store: Path) -> None:
    """Writes in four tasks, ships small batches often, and prints the seq of every record that was acknowledged."""
    journal = open_journal(state)
    shipper = Shipper(journal, FolderStore(store), every=0.01, batch_bytes=32_768)

    async def write(task: int) -> None:
        while True:
            seq = await journal.write("forwarded", task=task, text="x" * 300)
            sys.stdout.write(f"{seq}\n")
            sys.stdout.flush()
            await asyncio.sleep(0)

    await asyncio.gather(shipper.run(), *(write(task) for task in range(4)))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), Path(sys.argv[2])))
