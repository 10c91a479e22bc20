"""Batches with their final bytes and names, waiting for the store; a retry sends the same bytes under the same key."""

import gzip
import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

from mcp_sod.audit.durable import make_folder, sync_folder, write_file
from mcp_sod.audit.layout import Batch, checkpoint_key
from mcp_sod.audit.merkle import Tree
from mcp_sod.audit.note import Signer
from mcp_sod.audit.spool import Segment, write_mark
from mcp_sod.errors import AuditError


@dataclass(frozen=True, slots=True)
class Frozen:
    """A batch on disk; `size` is its length in bytes."""

    batch: Batch
    path: Path
    size: int

    @property
    def note(self) -> Path:
        """Return the file with the checkpoint that goes with it."""
        return _note(self.path)

    @property
    def checkpoint_key(self) -> str:
        """Return the key of the checkpoint over everything up to this batch."""
        return checkpoint_key(self.batch.gateway, self.batch.last + 1)


class Outbox:
    """The folder of frozen batches, `pending`, the oldest first; `end` is the state of the log after the last of them.

    Its methods block, so they run in a thread.
    """

    def __init__(self, spool: Path, gateway: str, end: Tree) -> None:
        """Take over what is there, without the leftovers of a crash."""
        self.pending: list[Frozen] = []
        self.end = end
        self._spool = spool
        self._folder = spool / "frozen"
        self._gateway = gateway
        make_folder(self._folder)
        for path in sorted(self._folder.glob("*.gz")):
            self.pending.append(Frozen(_batch(path, gateway), path, path.stat().st_size))
        for orphan in set(self._folder.glob("*.note")) - {frozen.note for frozen in self.pending}:
            orphan.unlink()

    @property
    def size(self) -> int:
        """Return how many bytes wait."""
        return sum(frozen.size for frozen in self.pending)

    def freeze(self, segment: Segment, signer: Signer) -> None:
        """Give a closed segment its final bytes and its checkpoint, then let go of the segment.

        Each step is durable before the next, and each can be done again after a crash: the checkpoint, the batch
        (from here on it exists, with these bytes), the mark, and the end of the segment.
        """
        end = self.end.extend(segment.leaves)
        if not any(frozen.batch.first == segment.first for frozen in self.pending):
            self.pending.append(self._write(segment, end, signer))
        write_mark(self._spool, self._gateway, end)
        self.end = end
        segment.path.unlink()

    def drop(self, frozen: Frozen) -> None:
        """Forget the oldest batch, which is in the store now."""
        frozen.path.unlink()
        sync_folder(self._folder)
        frozen.note.unlink()
        self.pending.remove(frozen)

    def _write(self, segment: Segment, end: Tree, signer: Signer) -> Frozen:
        lines = segment.path.read_bytes()
        body = gzip.compress(lines, compresslevel=6, mtime=0)
        first_record = json.loads(lines[: lines.index(b"\n")])
        digest = hashlib.sha256(body).hexdigest()
        batch = Batch(self._gateway, first_record["time"][:10], segment.first, end.size - 1, digest)
        path = self._folder / f"{batch.first:012}-{batch.last:012}-{batch.digest}.{batch.day}.gz"
        write_file(_note(path), signer.sign(end.size, end.root()))
        write_file(path, body)
        return Frozen(batch, path, len(body))


def _note(path: Path) -> Path:
    return path.with_suffix(".note")


def _batch(path: Path, gateway: str) -> Batch:
    try:
        span, day, _ = path.name.split(".")
        first, last, digest = span.split("-")
        return Batch(gateway, day, int(first), int(last), digest)
    except ValueError:
        raise AuditError(f"{path} is not a batch of this gateway.", hint="Move it out of the spool.") from None
