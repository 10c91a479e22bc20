"""The records of one gateway, batch after batch, with what is wrong about their order."""

from collections.abc import Callable, Iterator
from typing import Literal

from mcp_sod.audit.chaining import Gap
from mcp_sod.audit.layout import Batch
from mcp_sod.audit.merkle import NOTHING
from mcp_sod.audit.objects import Tell, open_oldest
from mcp_sod.audit.reader import Entry, Hashed, Source, UndecodableError, entry, lines
from mcp_sod.audit.report import Kind, Problem
from mcp_sod.audit.store import Body, ReadStore


class Batches:
    """Walks through a source's batches; tells problems as it finds them, and remembers whose bytes were changed."""

    def __init__(self, store: ReadStore, source: Source, tell: Tell, advance: Callable[[], None]) -> None:
        """Take where to tell problems, and what to call after each batch."""
        self.changed: list[str] = []  # batches whose bytes are not those that their name promises
        self._store = store
        self._source = source
        self._tell = tell
        self._advance = advance

    def __iter__(self) -> Iterator[Entry | Gap]:
        expected, before = 0, ""
        for batch, found in self._source.batches:
            body = open_oldest(self._store, self._source.gateway, found, self._tell)
            if batch.first > expected:
                self._problem("missing", batch.key, f"{span(expected, batch.first - 1)} before it: not there")
                yield Gap()
            if batch.first < expected:
                self._problem("fork", batch.key, f"{span(batch.first, batch.last)}: also in {before}")
            else:
                yield from self._batch(batch, body) if body else (Gap(),)
                expected, before = batch.last + 1, batch.key
            self._advance()

    def _batch(self, batch: Batch, opened: Body) -> Iterator[Entry | Gap]:
        body = Hashed(opened.chunks)
        order = _Order(batch)
        try:
            for line in lines(body):
                yield from self._record(order, entry(line, batch.key))
        except UndecodableError as error:
            after = f"after record {order.expected - 1}" if order.expected > batch.first else "from its start"
            self._problem("undecodable", batch.key, f"it cannot be read {after}: {error}")
            yield Gap()
        else:
            for hole in order.missing():
                self._problem("missing", batch.key, f"{span(hole.start, hole.stop - 1)}: not in it")
                yield Gap()
            if body.digest != batch.digest:
                self.changed.append(batch.key)

    def _record(self, order: "_Order", record: Entry | None) -> Iterator[Entry | Gap]:
        gateway = self._source.gateway
        if record is None:
            self._problem("altered", order.batch.key, f"what stands for record {order.expected} is no record")
            order.skip()
            yield Gap()
            return
        if record.gateway != gateway:
            self._problem("swapped", record.where, f"record {record.seq} is of {record.gateway[:64]!r}")
        if record.seq == 0 and record.prev != NOTHING:
            self._problem("altered", record.where, "record 0 names a record before it")
        if record.seq == order.batch.first and record.time[:10] != order.batch.day:
            self._problem(
                "misplaced", record.where, f"it lies under {order.batch.day}, not under its first record's day"
            )
        match order.place(record.seq):
            case "next":
                yield record
            case "ahead":
                yield Gap()
                yield record
            case "outside":
                self._problem("altered", record.where, f"it holds a record that says it is {record.seq}")
                yield Gap()
            case "reordered":
                self._problem("reordered", record.where, f"record {record.seq} stands after a later one")
            case "duplicated":
                self._problem("duplicated", record.where, f"record {record.seq} is there more than once")

    def _problem(self, kind: Kind, where: str, what: str) -> None:
        self._tell(Problem(kind, where, f"{self._source.gateway}: {what}."))


class _Order:
    """Which records of a batch have come, and which were passed over."""

    def __init__(self, batch: Batch) -> None:
        self.batch = batch
        self.expected = batch.first
        self._holes: list[range] = []

    def skip(self) -> None:
        """Count a record that cannot be read."""
        self.expected += 1

    def place(self, seq: int) -> Literal["next", "ahead", "outside", "reordered", "duplicated"]:
        """Take the next record's seq, and return where that puts it."""
        if seq == self.expected <= self.batch.last:
            self.expected += 1
            return "next"
        if not self.batch.first <= seq <= self.batch.last:
            self.expected += 1
            return "outside"
        if seq > self.expected:
            self._holes.append(range(self.expected, seq))
            self.expected = seq + 1
            return "ahead"
        for index, hole in enumerate(self._holes):
            if seq in hole:
                self._holes[index : index + 1] = [range(hole.start, seq), range(seq + 1, hole.stop)]
                return "reordered"
        return "duplicated"

    def missing(self) -> list[range]:
        """Return the records that never came."""
        return [hole for hole in (*self._holes, range(self.expected, self.batch.last + 1)) if hole]


def span(first: int, last: int) -> str:
    """Return the words for a run of records."""
    return f"record {first}" if first == last else f"records {first} to {last}"
