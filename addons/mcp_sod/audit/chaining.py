"""Which record was altered: judged by what the records after it say about it."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from mcp_sod.audit.reader import Entry


@dataclass(frozen=True, slots=True)
class Gap:
    """Records that cannot be read stand here; nothing chains across it."""


@dataclass(frozen=True, slots=True)
class Settled:
    """A record, the leaf hash that the log has for it, and whether its bytes are not those."""

    entry: Entry
    leaf: bytes
    altered: bool


def settle(items: Iterable[Entry | Gap]) -> Iterator[Settled | Gap]:
    """Yield the records in order, each judged by the two that follow.

    Record k is contradicted if k + 1 names another hash for it. If k + 1 itself is not contradicted, its word counts:
    k was altered, and the hash that k + 1 names is the one that was signed. If k + 1 is contradicted by k + 2, then
    k + 1 was altered, its word against k included. So one altered record is named exactly, and the tree over the
    claimed hashes still has the signed root, which proves that all the others are as they were.
    """
    window: list[Entry | Gap] = []
    before = False  # whether the record before was contradicted
    for item in _with_end(items):
        window.append(item)
        if len(window) < 3:  # the record and the two that judge it
            continue
        record, witness, judge = window
        if isinstance(record, Gap):
            before = False
            yield record
        else:
            claim = _contradicted(record, witness)
            altered = claim is not None and (before or _contradicted(witness, judge) is None)
            yield Settled(record, claim if altered and claim else record.leaf, altered)
            before = claim is not None
        del window[0]


def _contradicted(record: Entry | Gap, witness: Entry | Gap) -> bytes | None:
    """Return the hash that a witness names for a record, if it is not the hash of the record."""
    if isinstance(record, Gap) or isinstance(witness, Gap) or witness.prev == record.leaf:
        return None
    return witness.prev


def _with_end(items: Iterable[Entry | Gap]) -> Iterator[Entry | Gap]:
    yield from items
    yield Gap()
    yield Gap()
