"""The open segment."""

import errno
import os
import resource
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from mcp_sod.audit.merkle import leaf_hash
from mcp_sod.audit.segment import OpenSegment
from mcp_sod.errors import AuditError


@contextmanager
def full_disk() -> Iterator[None]:
    """No file of this process may grow beyond 25 bytes: the kernel itself writes short, then not at all.

    It must be over before the test is, since pytest's own output may go to a file.
    """
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (25, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_appends_lines(tmp_path: Path) -> None:
    """Lines come after one another, and closing gives their leaf hashes."""
    segment = OpenSegment(tmp_path, 7)
    assert segment.append(b"one") == leaf_hash(b"one")
    segment.append(b"two")
    assert segment.path.read_bytes() == b"one\ntwo\n"
    closed = segment.close()
    assert (closed.first, closed.leaves, closed.size) == (7, (leaf_hash(b"one"), leaf_hash(b"two")), 8)


def test_a_line_that_does_not_fit_is_taken_back(tmp_path: Path) -> None:
    """On a full disk a line is refused, what was written of it is cut, and one that fits is taken again."""
    segment = OpenSegment(tmp_path, 0)
    with full_disk():
        segment.append(b"x" * 19)
        for _ in range(2):
            with pytest.raises(AuditError, match=r"cannot be written.*Make room"):
                segment.append(b"y" * 19)
        assert segment.path.read_bytes() == b"x" * 19 + b"\n"
        segment.append(b"four")
    assert segment.path.read_bytes() == b"x" * 19 + b"\nfour\n"
    assert not segment.broken


def test_a_failing_disk_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error other than a lack of room breaks the segment for good."""
    segment = OpenSegment(tmp_path, 0)

    def broken_write(_file: int, _line: bytes) -> int:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", broken_write)
        with pytest.raises(AuditError, match=r"Input/output error.*Mend the disk"):
            segment.append(b"one")
    assert segment.broken
