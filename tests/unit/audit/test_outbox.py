"""Frozen batches."""

import gzip
import hashlib
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mcp_sod.audit.canonical import canonical
from mcp_sod.audit.durable import write_file
from mcp_sod.audit.merkle import NOTHING, Tree, leaf_hash
from mcp_sod.audit.note import Signer, open_note
from mcp_sod.audit.outbox import Outbox
from mcp_sod.audit.segment import OpenSegment
from mcp_sod.audit.spool import Segment, read_mark, recover
from mcp_sod.errors import AuditError

SIGNER = Signer("mcp-sod/gw-1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
FIRST = canonical({"seq": 0, "prev": NOTHING.hex(), "time": "2026-01-31T23:59:59.000000Z"})
SECOND = canonical({"seq": 1, "prev": leaf_hash(FIRST).hex(), "time": "2026-02-01T00:00:00.000000Z"})


@pytest.fixture
def segment(tmp_path: Path) -> Segment:
    """A closed segment of two records in a new spool."""
    recover(tmp_path, "gw-1")
    opened = OpenSegment(tmp_path, 0)
    opened.append(FIRST)
    opened.append(SECOND)
    return opened.close()


def test_freezes_bytes_name_and_checkpoint(tmp_path: Path, segment: Segment) -> None:
    """The batch holds the very lines, its name their day and digest; the checkpoint covers it; the mark moves."""
    outbox = Outbox(tmp_path, "gw-1", Tree())
    outbox.freeze(segment, SIGNER)
    (frozen,) = outbox.pending
    body = frozen.path.read_bytes()
    assert gzip.decompress(body) == FIRST + b"\n" + SECOND + b"\n"
    assert frozen.batch.key == (
        f"records/v1/dt=2026-01-31/src=gw-1/000000000000-000000000001-{hashlib.sha256(body).hexdigest()}.jsonl.gz"
    )
    assert frozen.checkpoint_key == "checkpoints/v1/src=gw-1/000000000002"
    stated = open_note(frozen.note.read_bytes(), [SIGNER.public])
    assert (stated.size, stated.root) == (2, outbox.end.root())
    assert read_mark(tmp_path, "gw-1") == outbox.end
    assert not segment.path.exists()


@pytest.mark.parametrize("crash_after", ["checkpoint", "batch", "mark", "segment"])
def test_a_crash_between_any_two_steps_loses_and_doubles_nothing(
    tmp_path: Path, segment: Segment, crash_after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever step of freezing was the last, the next start ends with the same one batch."""

    class Crash(BaseException):
        """The process ends here."""

    steps = iter(["checkpoint", "batch", "mark"])

    def write_then_crash(path: Path, content: bytes) -> None:
        write_file(path, content)
        if next(steps) == crash_after:
            raise Crash

    with monkeypatch.context() as patch:
        patch.setattr("mcp_sod.audit.outbox.write_file", write_then_crash)
        patch.setattr("mcp_sod.audit.spool.write_file", write_then_crash)
        try:
            Outbox(tmp_path, "gw-1", Tree()).freeze(segment, SIGNER)
        except Crash:
            assert crash_after != "segment"
    found = recover(tmp_path, "gw-1")
    outbox = Outbox(tmp_path, "gw-1", found.frozen)
    for left in found.segments:
        outbox.freeze(left, SIGNER)
    assert found.size == outbox.end.size == 2
    assert [(frozen.batch.first, frozen.batch.last) for frozen in outbox.pending] == [(0, 1)]
    assert outbox.pending[0].note.exists()


def test_dropping_leaves_nothing(tmp_path: Path, segment: Segment) -> None:
    """A batch that is in the store leaves no file behind, and an interrupted drop is finished at the next start."""
    outbox = Outbox(tmp_path, "gw-1", Tree())
    outbox.freeze(segment, SIGNER)
    outbox.pending[0].path.unlink()
    assert Outbox(tmp_path, "gw-1", outbox.end).size == 0
    assert list((tmp_path / "frozen").iterdir()) == []


def test_a_stranger_is_told(tmp_path: Path) -> None:
    """A file that is no batch is not shipped and not passed over."""
    (tmp_path / "frozen").mkdir()
    (tmp_path / "frozen" / "x.gz").touch()
    with pytest.raises(AuditError, match=r"x\.gz is not a batch"):
        Outbox(tmp_path, "gw-1", Tree())
