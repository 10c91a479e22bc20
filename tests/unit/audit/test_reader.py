"""Reading batches."""

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp_sod.audit.folder import FolderStore
from mcp_sod.audit.journal import LONGEST
from mcp_sod.audit.reader import UndecodableError, entry, lines, records, sources

from tests.world.records import make_log

BATCH = gzip.compress(b"one\ntwo\n")


def test_lines_do_not_depend_on_chunks() -> None:
    """However the bytes are cut, the lines are the same."""
    for size in range(1, len(BATCH) + 1):
        assert list(lines(BATCH[at : at + size] for at in range(0, len(BATCH), size))) == [b"one", b"two"]


@pytest.mark.parametrize(
    "body",
    [b"", b"one\n", BATCH[:-1], BATCH + b"x", BATCH + BATCH, gzip.compress(b"one"), BATCH[:12] + b"\0" + BATCH[13:]],
    ids=["empty", "plain", "cut", "more", "two members", "no newline", "damaged"],
)
def test_refuses_what_is_not_one_gzip_of_lines(body: bytes) -> None:
    """Bytes that are no gzip, end early, go on after their end, or end within a line are undecodable."""
    with pytest.raises(UndecodableError):
        list(lines([body]))
    with pytest.raises(UndecodableError):
        list(lines(body[at : at + 1] for at in range(len(body))))


def test_a_bomb_costs_no_memory() -> None:
    """An endless line is refused at the size of the largest record, long before it is unpacked."""

    def bomb() -> Iterator[bytes]:
        packer = zlib.compressobj(wbits=31)
        for taken in range(100_000):
            assert taken < 2000, "most of the bomb was unpacked"
            yield packer.compress(bytes(LONGEST // 256)) + packer.flush(zlib.Z_SYNC_FLUSH)

    with pytest.raises(UndecodableError, match="longer than any record"):
        list(lines(bomb()))


@pytest.mark.parametrize(
    "line", [b"", b"[]", b"{}", b"null", b'{"seq":"1","prev":"","gateway":"g","time":""}', b"\xff", b"[" * 100_000]
)
def test_what_is_no_record_is_none(line: bytes) -> None:
    """A line that does not say what every record says is not taken for one, and crashes nothing."""
    assert entry(line, "x") is None


def test_finds_gateways_and_strangers(tmp_path: Path) -> None:
    """Objects are sorted by gateway; a key of another shape is told, not read; records come in order."""
    store = FolderStore(tmp_path / "store")
    make_log(tmp_path / "1", store, [2, 3], "gw-1")
    make_log(tmp_path / "2", store, [1], "gw-2")
    (tmp_path / "store/records/v1/readme").touch()
    (tmp_path / "store/checkpoints/v1/readme").touch()
    found, strangers = sources(store)
    assert [(each.gateway, len(each.batches), len(each.checkpoints)) for each in found] == [
        ("gw-1", 2, 2),
        ("gw-2", 1, 1),
    ]
    assert strangers == ["records/v1/readme", "checkpoints/v1/readme"]
    assert [record["seq"] for record in records(store, found[0])] == [0, 1, 2, 3, 4]
