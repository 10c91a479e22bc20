"""The journal: records, one after another, durable before the act that they describe."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Literal

from mcp_sod.audit import spool
from mcp_sod.audit.canonical import canonical
from mcp_sod.audit.clock import Stamp
from mcp_sod.audit.keys import open_signer, public_path
from mcp_sod.audit.layout import NAME
from mcp_sod.audit.outbox import Outbox
from mcp_sod.audit.segment import OpenSegment
from mcp_sod.audit.sync import GroupSync
from mcp_sod.errors import AuditError

LONGEST = 8 * 1024 * 1024  # bytes of one record; twice the largest body that the gateway takes
_OWN = frozenset({"v", "seq", "time", "gateway", "event", "prev"})
_GATHER = {"process": 0.04, "power": 0.0}  # seconds; with the sync itself a group stays below 50 ms


class Journal:
    """Writes records, one after another, durably, before the act that they describe.

    It belongs to one event loop. `segment_bytes` is the length at which a segment is closed, to become a batch;
    `closed` holds the closed ones until the shipper takes them into `outbox`.
    """

    def __init__(  # noqa: PLR0913 (the parameters of `open`, and the lock)
        self,
        folder: Path,
        gateway: str,
        *,
        key: Path,
        durability: Literal["process", "power"],
        clock: Callable[[], float],
        lock: int,
    ) -> None:
        """Recover the spool and go on in a new segment; use `open`, which gives clear errors."""
        self.gateway = gateway
        self.segment_bytes = 1024 * 1024
        self._folder = folder
        self._key = key
        self._lock = lock
        self._clock = clock
        self._stamp = Stamp()
        self._power = durability == "power"
        self._broken = ""
        found = spool.recover(folder, gateway)
        self._size = found.size
        self._last = found.last
        self.closed = deque(found.segments)
        self.signer = open_signer(key, f"mcp-sod/{gateway}", create=found.size == 0)
        self.outbox = Outbox(folder, gateway, found.frozen)
        self._segment = OpenSegment(folder, found.size)
        self._folder_file = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        self._sync = GroupSync(self._folder_file, _GATHER[durability])
        self._sync.adopt(self._segment.file)
        if found.cut or found.set_aside:
            self._append("gap", {"cut_bytes": found.cut, "set_aside": list(found.set_aside)})

    @classmethod
    def open(
        cls,
        folder: Path,
        gateway: str,
        *,
        key: Path,
        durability: Literal["process", "power"],
        clock: Callable[[], float] = time.time,
    ) -> "Journal":
        """Return the journal of a spool folder, which no other process may hold, recovered after a crash.

        A torn last record, which was never acknowledged, is cut, and a `gap` record says so. A spool that is in use,
        altered, or of another gateway, and a key that is missing or malformed, are an AuditError.
        """
        if not NAME.fullmatch(gateway):
            raise AuditError(f"{gateway!r} cannot be a gateway's name.", hint="Use letters, digits, '.', '_', '-'.")
        try:
            lock = spool.lock(folder)
            try:
                journal = cls(folder, gateway, key=key, durability=durability, clock=clock, lock=lock)
            except BaseException:
                os.close(lock)
                raise
        except OSError as error:
            sentence = f"The spool {folder} cannot be opened: {error.strerror}."
            raise AuditError(sentence, hint="Check the folder, its owner, and the room on its disk.") from None
        return journal

    @property
    def public_key(self) -> Path:
        """Return the file with the verifier key that auditors need."""
        return public_path(self._key)

    @property
    def size(self) -> int:
        """Return how many records the log has, those in the store included."""
        return self._size

    @property
    def shipped(self) -> int:
        """Return the seq of the first record that is not in the store."""
        if self.outbox.pending:
            return self.outbox.pending[0].batch.first
        return self.closed[0].first if self.closed else self._segment.first

    @property
    def waiting(self) -> int:
        """Return how many bytes lie in the spool."""
        return self._segment.size + sum(segment.size for segment in self.closed) + self.outbox.size

    @property
    def broken(self) -> str:
        """Return why nothing can be written any more until a restart, or nothing."""
        error = self._sync.error
        return self._broken or self._segment.broken or (f"it could not be synced: {error}" if error else "")

    def fail(self, why: str) -> None:
        """Refuse every record from now on."""
        self._broken = self._broken or why

    async def write(self, event: str, **fields: object) -> int:
        """Make one record durable and return its seq, or raise AuditError: then it is not in the log.

        With durability "process" it survives the death of this process at once, and a power cut within 50 ms; with
        "power" it survives both. A cancelled call may still have written its record.
        """
        seq = self._append(event, fields)
        group = self._sync.due()
        if self._power:
            await asyncio.shield(group)
            self._check()
        return seq

    def rotate(self) -> None:
        """Close the open segment, so that it can be shipped, and go on in a new one; an empty one stays open."""
        if not self._segment.size:
            return
        segment = OpenSegment(self._folder, self._size)
        self.closed.append(self._segment.close())
        self._segment = segment
        self._sync.adopt(segment.file)

    async def close(self) -> None:
        """Make everything durable and let go of the spool."""
        self.fail("it is closed")
        await self._sync.close()
        os.close(self._folder_file)
        os.close(self._lock)

    def _check(self) -> None:
        if self.broken:
            raise AuditError(f"The journal is broken: {self.broken}.", hint="Start the gateway again.")

    def _append(self, event: str, fields: dict[str, object]) -> int:
        if not _OWN.isdisjoint(fields):
            raise TypeError(f"the journal makes these fields itself: {sorted(_OWN & fields.keys())}")
        self._check()
        seq = self._size
        fields["v"] = 1
        fields["seq"] = seq
        fields["time"] = self._stamp(self._clock())
        fields["gateway"] = self.gateway
        fields["event"] = event
        fields["prev"] = self._last.hex()
        line = canonical(fields)
        if len(line) > LONGEST:
            raise AuditError(f"The record is longer than {LONGEST} bytes.")
        self._last = self._segment.append(line)
        self._size = seq + 1
        if self._segment.size >= self.segment_bytes:
            self._rotate_if_possible()
        return seq

    def _rotate_if_possible(self) -> None:
        """Rotate; where that fails (a full disk), the segment just grows on."""
        try:
            self.rotate()
        except OSError:
            return
