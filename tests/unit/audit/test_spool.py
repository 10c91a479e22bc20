"""The spool after a crash."""

import json
import os
from pathlib import Path

import pytest
from mcp_sod.audit.merkle import NOTHING, leaf_hash
from mcp_sod.audit.spool import lock, recover, segment_path
from mcp_sod.errors import AuditError


def chain(first: int, count: int, last: bytes = NOTHING) -> tuple[bytes, bytes]:
    """The content of a segment with so many records, and the last leaf hash."""
    content = b""
    for seq in range(first, first + count):
        line = json.dumps({"seq": seq, "prev": last.hex()}).encode()
        last = leaf_hash(line)
        content += line + b"\n"
    return content, last


@pytest.fixture
def spool(tmp_path: Path) -> Path:
    """A spool with two segments of three records."""
    recover(tmp_path, "gw-1")
    content, last = chain(0, 3)
    segment_path(tmp_path, 0).write_bytes(content)
    segment_path(tmp_path, 3).write_bytes(chain(3, 3, last)[0])
    return tmp_path


def test_an_untouched_spool_goes_on(spool: Path) -> None:
    """The control: all records are found, nothing is cut, and a second look finds the same."""
    found = recover(spool, "gw-1")
    assert (found.size, found.cut, found.set_aside) == (6, 0, ())
    assert [segment.first for segment in found.segments] == [0, 3]
    assert recover(spool, "gw-1") == found


def test_a_torn_record_is_cut(spool: Path) -> None:
    """Bytes after the last newline were never acknowledged, and go; the whole records stay."""
    path = segment_path(spool, 3)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"seq":6,"pr')
    found = recover(spool, "gw-1")
    assert (found.size, found.cut) == (6, 12)
    assert path.read_bytes() == whole


def test_an_altered_record_is_told(spool: Path) -> None:
    """A whole line that does not follow the one before stops the start, with file and line; nothing is cut."""
    path = segment_path(spool, 0)
    altered = path.read_bytes().replace(b'"seq": 1', b'"seq": 9')
    path.write_bytes(altered)
    with pytest.raises(AuditError, match=r"000000000000\.jsonl, line 2 does not follow"):
        recover(spool, "gw-1")
    assert path.read_bytes() == altered


def test_what_lost_its_beginning_is_set_aside(spool: Path) -> None:
    """If the power took the end of one segment but not the next one, that is kept apart and named."""
    os.truncate(segment_path(spool, 0), segment_path(spool, 0).stat().st_size - 5)
    found = recover(spool, "gw-1")
    assert found.size == 2
    assert found.set_aside == ("000000000003.aside",)
    assert (spool / "000000000003.aside").exists()


def test_an_empty_segment_goes(spool: Path) -> None:
    """A segment without a record leaves its name to the next one."""
    segment_path(spool, 6).touch()
    assert recover(spool, "gw-1").size == 6
    assert not segment_path(spool, 6).exists()


def test_one_name_one_spool(spool: Path) -> None:
    """The spool of another gateway is refused; its own goes on."""
    with pytest.raises(AuditError, match="belongs to the gateway gw-1"):
        recover(spool, "gw-2")
    recover(spool, "gw-1")


@pytest.mark.parametrize("content", [None, b"", b"[]", b'{"gateway":"gw-1"}'])
def test_a_lost_mark_is_told(spool: Path, content: bytes | None) -> None:
    """Records without a readable mark are not taken for a new log."""
    (spool / "mark.json").unlink()
    if content is not None:
        (spool / "mark.json").write_bytes(content)
    with pytest.raises(AuditError, match=r"mark\.json is missing or cannot be read"):
        recover(spool, "gw-1")


def test_one_process_at_a_time(tmp_path: Path) -> None:
    """A second holder is refused with a clear error, and may come in once the first is gone."""
    first = lock(tmp_path)
    with pytest.raises(AuditError, match="in use by another gateway process"):
        lock(tmp_path)
    os.close(first)
    os.close(lock(tmp_path))
