"""Group commit."""

import asyncio
import errno
import os
from pathlib import Path

import pytest
from mcp_sod.audit.sync import GroupSync


def opened(folder: Path, name: str) -> int:
    """A new file's descriptor."""
    return os.open(folder / name, os.O_WRONLY | os.O_CREAT)


def group_sync(folder: Path, delay: float = 0.0) -> GroupSync:
    """A group commit with one open file."""
    sync = GroupSync(os.open(folder, os.O_RDONLY), delay)
    sync.adopt(opened(folder, "a"))
    return sync


async def test_many_waiters_share_one_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred writers of one moment cost one fdatasync, and each returns after it."""
    calls: list[int] = []
    monkeypatch.setattr(os, "fdatasync", calls.append)
    sync = group_sync(tmp_path)
    await asyncio.gather(*(asyncio.shield(sync.due()) for _ in range(100)))
    assert len(calls) == 1
    await sync.close()


async def test_one_cancelled_waiter_does_not_cancel_the_others(tmp_path: Path) -> None:
    """Whoever stops waiting stops alone."""
    sync = group_sync(tmp_path, 0.01)

    async def wait() -> None:
        await asyncio.shield(sync.due())

    first, second = asyncio.ensure_future(wait()), asyncio.ensure_future(wait())
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert first.cancelled()
    await sync.close()


async def test_syncs_and_closes_the_segment_before(tmp_path: Path) -> None:
    """The segment that was taken over from is synced before its descriptor is closed."""
    sync = group_sync(tmp_path)
    old = sync._files[0]  # noqa: SLF001 (a descriptor has no other witness)
    sync.adopt(opened(tmp_path, "b"))
    os.fstat(old)
    await sync.due()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(old)
    await sync.close()


async def test_an_error_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """After one failed fdatasync, later ones that succeed do not take the error back (the pages may be gone)."""

    def failing(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    sync = group_sync(tmp_path)
    await sync.due()
    before = sync.error
    assert before is None
    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing)
        await sync.due()
    await sync.due()
    assert isinstance(sync.error, OSError)
    await sync.close()


async def test_a_deleted_segment_is_an_error(tmp_path: Path) -> None:
    """Records must not go on into a file that has no name any more: nothing would find them after a restart."""
    sync = group_sync(tmp_path)
    (tmp_path / "a").unlink()
    await sync.due()
    assert isinstance(sync.error, FileNotFoundError)
    await sync.close()
