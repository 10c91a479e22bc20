"""The journal."""

import asyncio
import errno
import json
import os
from pathlib import Path

import pytest
from mcp_sod.audit.canonical import canonical
from mcp_sod.audit.journal import LONGEST
from mcp_sod.audit.merkle import leaf_hash
from mcp_sod.audit.spool import segment_path
from mcp_sod.errors import AuditError

from tests.world.records import open_journal


def lines(state: Path) -> list[bytes]:
    """All lines that lie in the spool's segments."""
    return [line for path in sorted((state / "spool").glob("*.jsonl")) for line in path.read_bytes().splitlines()]


async def test_a_record_chains_to_the_one_before(tmp_path: Path) -> None:
    """Records are canonical, numbered from 0, and each names the leaf hash of the one before; the first, zeros."""
    journal = open_journal(tmp_path)
    assert [await journal.write("denied", reason="née"), await journal.write("held", ticket=None)] == [0, 1]
    first, second = lines(tmp_path)
    assert json.loads(first) == {
        "v": 1, "seq": 0, "time": "2026-01-01T00:00:00.000000Z", "gateway": "gw-1", "event": "denied",
        "prev": "0" * 64, "reason": "née",
    }  # fmt: skip
    assert json.loads(second)["prev"] == leaf_hash(first).hex()
    assert canonical(json.loads(second)) == second
    await journal.close()


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_a_record_is_in_the_file_when_write_returns(tmp_path: Path, durability: str) -> None:
    """Whatever the durability, the kernel has the record before the caller goes on."""
    journal = open_journal(tmp_path, durability=durability)  # type: ignore[arg-type]  # a parameter is a str
    for count in range(1, 4):
        await journal.write("denied")
        assert len(lines(tmp_path)) == count
    await journal.close()


async def test_power_waits_for_the_disk_and_process_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`power` returns after the fdatasync that covers the record, `process` before; it follows within 50 ms."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fdatasync", synced.append)
    process, power = open_journal(tmp_path / "1"), open_journal(tmp_path / "2", durability="power")
    await process.write("denied")
    assert not synced
    await power.write("denied")
    assert len(synced) == 1
    await asyncio.sleep(0.05)
    assert len(synced) == 2
    await process.close()
    await power.close()


async def test_concurrent_writers_keep_their_order(tmp_path: Path) -> None:
    """Many tasks at once leave one unbroken chain, in the order of the numbers that they were given."""
    journal = open_journal(tmp_path, durability="power")
    journal.segment_bytes = 1000
    seqs = await asyncio.gather(*(journal.write("denied", task=task) for task in range(200)))
    assert seqs == list(range(200))
    await journal.close()
    again = open_journal(tmp_path)
    assert again.size == 200
    assert len(again.closed) > 10
    await again.close()


async def test_a_restart_goes_on(tmp_path: Path) -> None:
    """After a stop the numbers go on where they ended, and recovery accepts the chain."""
    for start in range(3):
        journal = open_journal(tmp_path)
        assert await journal.write("started") == start
        await journal.close()


async def test_a_torn_record_leaves_a_gap_record(tmp_path: Path) -> None:
    """What a crash tore is cut, and the log itself says that something was."""
    journal = open_journal(tmp_path)
    await journal.write("denied")
    await journal.close()
    with segment_path(tmp_path / "spool", 0).open("ab") as file:
        file.write(b'{"half')
    again = open_journal(tmp_path)
    gap = json.loads(lines(tmp_path)[-1])
    assert (gap["seq"], gap["event"], gap["cut_bytes"]) == (1, "gap", 6)
    await again.close()


async def test_no_room_refuses_and_recovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A record that finds no room is an AuditError and not in the log; when there is room, the chain goes on."""
    journal = open_journal(tmp_path)
    await journal.write("denied", n=0)

    def write_with_a_full_disk(_file: int, _line: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write_with_a_full_disk)
        for _ in range(3):
            with pytest.raises(AuditError, match="No space left"):
                await journal.write("denied", n=1)
    assert await journal.write("denied", n=2) == 1
    await journal.close()
    assert [json.loads(line)["n"] for line in lines(tmp_path)] == [0, 2]
    await open_journal(tmp_path).close()


@pytest.mark.parametrize("durability", ["process", "power"])
async def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: str) -> None:
    """After a failed fdatasync no record is taken any more, until a restart recovers what is there."""
    journal = open_journal(tmp_path, durability=durability)  # type: ignore[arg-type]  # a parameter is a str
    await journal.write("denied")

    def failing_fdatasync(_file: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fdatasync", failing_fdatasync)
        if durability == "process":
            await journal.write("denied")
            await asyncio.sleep(0.08)
        with pytest.raises(AuditError, match="could not be synced"):
            await journal.write("denied")
    with pytest.raises(AuditError, match="could not be synced"):
        await journal.write("denied")
    await journal.close()
    again = open_journal(tmp_path)
    await again.write("started")
    await again.close()


async def test_a_deleted_spool_is_noticed(tmp_path: Path) -> None:
    """Records do not go on into a segment that someone deleted."""
    journal = open_journal(tmp_path)
    await journal.write("denied")
    segment_path(tmp_path / "spool", 0).unlink()
    await asyncio.sleep(0.08)
    with pytest.raises(AuditError, match="the open segment was deleted"):
        await journal.write("denied")
    await journal.close()


async def test_a_rotation_that_fails_is_no_harm(tmp_path: Path) -> None:
    """If no new segment can be opened, records go on into the old one."""
    journal = open_journal(tmp_path)
    journal.segment_bytes = 1
    taken = [segment_path(tmp_path / "spool", first) for first in (1, 2)]
    for path in taken:
        path.mkdir()
    await journal.write("denied")
    await journal.write("denied")
    assert not journal.closed
    await journal.write("denied")
    assert [len(segment.leaves) for segment in journal.closed] == [3]
    for path in taken:
        path.rmdir()
    await journal.close()


async def test_fields_of_its_own_are_not_taken(tmp_path: Path) -> None:
    """A caller cannot set what the journal itself says."""
    journal = open_journal(tmp_path)
    for name in ("v", "seq", "time", "gateway", "prev"):
        with pytest.raises(TypeError, match=name):
            await journal.write("denied", **{name: 1})
    assert journal.size == 0
    await journal.close()


async def test_what_cannot_be_written_is_not_in_the_log(tmp_path: Path) -> None:
    """A float, and a record beyond the limit, are an AuditError; the next record takes the number."""
    journal = open_journal(tmp_path)
    for value in (1.5, "x" * LONGEST):
        with pytest.raises(AuditError):
            await journal.write("denied", value=value)
    assert await journal.write("denied") == 0
    await journal.close()


async def test_closed_is_closed(tmp_path: Path) -> None:
    """A closed journal takes no record and leaves the spool to the next process."""
    journal = open_journal(tmp_path)
    with pytest.raises(AuditError, match="in use"):
        open_journal(tmp_path)
    await journal.close()
    with pytest.raises(AuditError, match="it is closed"):
        await journal.write("denied")
    await open_journal(tmp_path).close()


@pytest.mark.parametrize("name", ["", "../x", "a/b", "a b", "a+b", "é", "x" * 65])
def test_a_name_must_fit_into_keys(tmp_path: Path, name: str) -> None:
    """A gateway's name that could change an object's key is refused before anything is made."""
    with pytest.raises(AuditError, match="gateway's name"):
        open_journal(tmp_path, name)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """A spool on a path that is a file is an AuditError that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(AuditError, match=r"file/spool cannot be opened"):
        open_journal(tmp_path / "file")


async def test_a_lost_key_stops_the_start(tmp_path: Path) -> None:
    """Where records are, the key is not made anew."""
    journal = open_journal(tmp_path)
    await journal.write("denied")
    await journal.close()
    assert journal.public_key.exists()
    (tmp_path / "keys" / "audit.key").unlink()
    with pytest.raises(AuditError, match="Restore it"):
        open_journal(tmp_path)
