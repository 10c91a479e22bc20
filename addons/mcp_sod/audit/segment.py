"""The open segment: the file that records are appended to."""

import errno
import os
from pathlib import Path

from mcp_sod.audit.merkle import leaf_hash
from mcp_sod.audit.spool import Segment, segment_path
from mcp_sod.errors import AuditError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


class OpenSegment:
    """A growing file of whole lines; a line that does not fit is taken back, so that the file stays whole.

    `broken` says why nothing can be appended any more; it stays until a restart recovers the spool.
    """

    def __init__(self, folder: Path, first: int) -> None:
        """Make the file whose first record will be `first`; its name is durable after the next sync of the folder."""
        self.first = first
        self.size = 0
        self.leaves: list[bytes] = []
        self.broken = ""
        self.path = segment_path(folder, first)
        self.file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)

    def append(self, line: bytes) -> bytes:
        """Hand one line to the kernel, where it outlives this process, and return its leaf hash.

        A line that does not fit is an AuditError.
        """
        try:
            written = os.write(self.file, line + b"\n")
        except OSError as error:
            if error.errno not in _FULL:
                self.broken = error.strerror or "write error"
            raise self._take_back(error.strerror) from None
        if written != len(line) + 1:
            raise self._take_back("no space left on the device")
        self.size += written
        leaf = leaf_hash(line)
        self.leaves.append(leaf)
        return leaf

    def close(self) -> Segment:
        """Return what becomes a batch; the file itself stays open until it is synced."""
        return Segment(self.path, self.first, tuple(self.leaves), self.size)

    def _take_back(self, why: str | None) -> AuditError:
        """Cut what is there of a line that was not written whole."""
        try:
            os.ftruncate(self.file, self.size)
        except OSError as error:
            self.broken = error.strerror or "truncate error"
        hint = "Make room on that disk." if not self.broken else "Mend the disk, then start the gateway again."
        return AuditError(f"The record cannot be written to {self.path}: {why}.", hint=hint)
