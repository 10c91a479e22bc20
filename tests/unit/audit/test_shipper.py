"""The shipper, with a store that fails when it is told to."""

import asyncio
import shutil
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from mcp_sod.audit import shipper as module
from mcp_sod.audit.folder import FolderStore
from mcp_sod.audit.shipper import ForkError, Shipper
from mcp_sod.audit.verify import verify
from mcp_sod.errors import AuditError

from tests.world.records import log_of, open_journal


class Moody(FolderStore):
    """A folder store that remembers its puts, and is away while `away` is true."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.puts: list[tuple[str, bytes]] = []
        self.away = False
        self.delay: Callable[[], object] = lambda: None

    def put(self, key: str, body: bytes) -> None:
        """Remember the put, and do it or fail."""
        self.puts.append((key, body))
        self.delay()
        if self.away:
            raise AuditError("The store is away.")
        super().put(key, body)


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retries and looks at the journal come quickly."""
    monkeypatch.setattr(module, "_TICK", 0.005)
    monkeypatch.setattr(module, "_PATIENCE", (0.005, 0.02))


async def until(condition: Callable[[], bool]) -> None:
    """Wait for something, not for ever."""
    async with asyncio.timeout(5):
        while not condition():  # noqa: ASYNC110 (it waits for what has no event)
            await asyncio.sleep(0.005)


async def stop(task: asyncio.Task[None]) -> None:
    """End a running shipper."""
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_ships_by_itself(tmp_path: Path) -> None:
    """While it runs, records reach the store, batch and checkpoint; then nothing is left in the spool."""
    journal, store = open_journal(tmp_path), Moody(tmp_path / "store")
    shipper = Shipper(journal, store, every=0.01)
    running = asyncio.ensure_future(shipper.run())
    await journal.write("denied")
    assert shipper.backlog > 0
    await until(lambda: len(store.puts) == 2 and shipper.backlog == 0)
    assert [key.split("/")[0] for key, _ in store.puts] == ["records", "checkpoints"]
    assert shipper.failing is None
    await stop(running)
    await journal.close()
    assert verify(store, journal.public_key.read_text()).ok


async def test_a_store_that_was_not_asked_counts_as_away(tmp_path: Path) -> None:
    """Until the store has answered for the first time `failing` says so: no call goes through on a mere hope."""
    journal = open_journal(tmp_path)
    shipper = Shipper(journal, Moody(tmp_path / "store"))
    unasked = shipper.failing
    await shipper.check()
    assert (unasked, shipper.failing) == ("The store has not answered yet.", None)
    await journal.close()


async def test_a_large_segment_does_not_wait(tmp_path: Path) -> None:
    """A batch goes when it is large enough, long before its time."""
    journal, store = open_journal(tmp_path), Moody(tmp_path / "store")
    running = asyncio.ensure_future(Shipper(journal, store, every=3600, batch_bytes=1000).run())
    for _ in range(10):
        await journal.write("denied")
    await until(lambda: len(store.puts) >= 2)
    await stop(running)
    await journal.close()


async def test_speaks_while_idle(tmp_path: Path) -> None:
    """Without new records the last checkpoint goes out again and again, with the same bytes."""
    journal, store = open_journal(tmp_path), Moody(tmp_path / "store")
    running = asyncio.ensure_future(Shipper(journal, store, every=0.01, checkpoint_every=0.02).run())
    await journal.write("denied")
    await until(lambda: len(store.puts) >= 5)
    assert len(set(store.puts[1:])) == 1
    assert store.puts[1][0] == "checkpoints/v1/src=gw-1/000000000001"
    await stop(running)
    await journal.close()


async def test_a_store_that_is_away_loses_nothing(tmp_path: Path) -> None:
    """While the store is away records go on into the spool and `failing` says why; when it is back, all arrive."""
    journal, store = open_journal(tmp_path), Moody(tmp_path / "store")
    shipper = Shipper(journal, store, every=0.01)
    running = asyncio.ensure_future(shipper.run())
    store.away = True
    for _ in range(50):
        await journal.write("denied")
        await asyncio.sleep(0.001)
    await until(lambda: shipper.failing == "The store is away.")
    tries = [put for put in store.puts if put[0].startswith("records/")]
    await until(lambda: len(store.puts) > len(tries))
    assert len(set(store.puts)) == 1, "every retry must be the same bytes under the same key"
    backlog = shipper.backlog
    assert backlog > 0
    store.away = False
    await until(lambda: shipper.failing is None and shipper.backlog == 0)
    await stop(running)
    await journal.close()
    report = verify(store, journal.public_key.read_text())
    assert (report.ok, report.records) == (True, 50)


async def test_frozen_bytes_outlive_a_restart(tmp_path: Path) -> None:
    """What was tried before a restart is tried after it, the same bytes under the same key, before anything new."""
    store = Moody(tmp_path / "store")
    store.away = True
    journal = open_journal(tmp_path)
    await journal.write("denied")
    shipper = Shipper(journal, store)
    await shipper.flush()
    assert shipper.failing == "The store is away."
    await journal.close()
    store.away = False
    again = open_journal(tmp_path)
    await again.write("started")
    await Shipper(again, store).flush()
    batches = [put for put in store.puts if put[0].startswith("records/")]
    assert batches[0] == batches[1]
    assert len(batches) == 3
    await again.close()
    assert verify(store, again.public_key.read_text()).records == 2


async def test_flush_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that does not answer cannot keep the gateway from stopping; the records stay in the spool."""
    monkeypatch.setattr(module, "_FAREWELL", 0.05)
    journal, store = open_journal(tmp_path), Moody(tmp_path / "store")
    answer = threading.Event()
    store.delay = lambda: answer.wait(5)
    await journal.write("denied")
    shipper = Shipper(journal, store)
    async with asyncio.timeout(1):
        await shipper.flush()
    assert shipper.failing
    assert shipper.backlog > 0
    answer.set()
    await journal.close()


@pytest.mark.parametrize("lost", ["all", "the last batch"])
async def test_a_lost_state_folder_does_not_fork_the_log(tmp_path: Path, lost: str) -> None:
    """A store that knows more than the state folder, empty or out of date, stops the gateway, with a hint."""
    store, state = FolderStore(tmp_path / "store"), tmp_path / "state"
    await log_of(state, store, [2])
    if lost == "the last batch":
        shutil.copytree(state, tmp_path / "backup")
    await log_of(state, store, [1])
    shutil.rmtree(state)
    if lost == "the last batch":
        (tmp_path / "backup").rename(state)
    journal = open_journal(state)
    with pytest.raises(ForkError, match=r"knows nothing of\. Restore the state folder"):
        await Shipper(journal, store).run()
    with pytest.raises(AuditError, match="its shipper ended"):
        await journal.write("denied")
    await journal.close()


async def test_a_known_store_is_no_fork(tmp_path: Path) -> None:
    """The control: a restart, also one that interrupted a put, goes on with the same log."""
    store, state = Moody(tmp_path / "store"), tmp_path / "state"
    for round_ in range(3):
        journal = open_journal(state)
        shipper = Shipper(journal, store)
        await shipper.check()
        await journal.write("denied")
        store.away = round_ == 1
        await shipper.flush()
        await journal.close()
    assert verify(store, journal.public_key.read_text()).records == 3


async def test_a_fault_inside_breaks_the_journal(tmp_path: Path) -> None:
    """If the shipper itself fails, no more records are taken: they would stay behind unseen."""
    journal, store = open_journal(tmp_path), Moody(tmp_path / "store")

    def fault() -> None:
        raise LookupError

    store.delay = fault
    await journal.write("denied")
    with pytest.raises(LookupError):
        await Shipper(journal, store, every=0).run()
    with pytest.raises(AuditError, match="its shipper ended"):
        await journal.write("denied")
    await journal.close()
