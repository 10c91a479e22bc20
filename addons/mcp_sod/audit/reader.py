"""Reading the store: which objects there are, in all their versions, and the records in a batch."""

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import groupby

from mcp_sod.audit.journal import LONGEST
from mcp_sod.audit.layout import CHECKPOINTS, RECORDS, Batch, batch_of, checkpoint_of
from mcp_sod.audit.merkle import leaf_hash
from mcp_sod.audit.store import ReadStore, Version
from mcp_sod.errors import AuditError

_GZIP = 31  # zlib's window bits for one gzip member
_PIECE = 1024 * 1024  # bytes decompressed at a time, so that a bomb costs no memory


class UndecodableError(AuditError):
    """A batch is not gzip, or does not hold lines of JSON."""


@dataclass(frozen=True, slots=True)
class Object:
    """A key with its oldest version, which is the one that the gateway wrote, and what was laid over it later."""

    key: str
    oldest: Version | None
    later: tuple[Version, ...]
    markers: int


@dataclass(frozen=True, slots=True)
class Source:
    """The objects of one gateway: its batches by seq, its checkpoints by size."""

    gateway: str
    batches: tuple[tuple[Batch, Object], ...]
    checkpoints: tuple[tuple[int, Object], ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """What verification needs of one record; `leaf` is the hash of its line."""

    seq: int
    prev: bytes
    gateway: str
    time: str
    leaf: bytes
    where: str


def sources(store: ReadStore, *, running: bool = False) -> tuple[list[Source], list[str]]:
    """Return the gateways that have objects in the store, and the keys of objects that are none of theirs.

    Batches are listed before checkpoints, so that at most the newest one's is still on its way. If the gateway is
    `running`, a checkpoint that came while they were listed is left out, as its batch is.
    """
    before = {found.key for found in _objects(store, CHECKPOINTS)} if running else set()
    batches: dict[str, list[tuple[Batch, Object]]] = {}
    checkpoints: dict[str, list[tuple[int, Object]]] = {}
    strangers: list[str] = []
    for found in _objects(store, RECORDS):
        if batch := batch_of(found.key):
            batches.setdefault(batch.gateway, []).append((batch, found))
        else:
            strangers.append(found.key)
    ends = {gateway: max(batch.last for batch, _ in found) + 1 for gateway, found in batches.items()}
    for found in _objects(store, CHECKPOINTS):
        if named := checkpoint_of(found.key):
            if running and named[1] > ends.get(named[0], 0) and found.key not in before:
                continue
            checkpoints.setdefault(named[0], []).append((named[1], found))
        else:
            strangers.append(found.key)
    return [
        Source(
            gateway,
            tuple(sorted(batches.get(gateway, []), key=lambda pair: (pair[0].first, pair[0].last))),
            tuple(checkpoints.get(gateway, [])),
        )
        for gateway in sorted(batches.keys() | checkpoints.keys())
    ], strangers


def _objects(store: ReadStore, prefix: str) -> Iterator[Object]:
    for key, group in groupby(store.versions(prefix), key=lambda version: version.key):
        versions = list(group)
        real = [version for version in versions if not version.marker]
        yield Object(key, real[0] if real else None, tuple(real[1:]), len(versions) - len(real))


class Hashed:
    """Passes chunks on and keeps their SHA-256, as hex."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        """Take the chunks; the digest is theirs once all are read."""
        self._chunks = chunks
        self._hash = hashlib.sha256()

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._hash.update(chunk)
            yield chunk

    @property
    def digest(self) -> str:
        """Return the digest of what was read so far."""
        return self._hash.hexdigest()


def lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the lines of one gzip member without their newlines; anything else is an UndecodableError."""
    rest = b""
    for piece in _gunzip(chunks):
        *whole, rest = (rest + piece).split(b"\n")
        yield from whole
        if len(rest) > LONGEST:
            raise UndecodableError("a line is longer than any record")
    if rest:
        raise UndecodableError("the last line has no end")


def _gunzip(chunks: Iterable[bytes]) -> Iterator[bytes]:
    unzip = zlib.decompressobj(_GZIP)
    try:
        for chunk in chunks:
            if unzip.eof:
                raise UndecodableError("there are bytes after its end")
            yield unzip.decompress(chunk, _PIECE)
            while unzip.unconsumed_tail:
                yield unzip.decompress(unzip.unconsumed_tail, _PIECE)
    except zlib.error:
        raise UndecodableError("it is not gzip, or damaged") from None
    if not unzip.eof or unzip.unused_data:
        raise UndecodableError("it does not end where its gzip data ends")


def entry(line: bytes, where: str) -> Entry | None:
    """Return what a line says of itself, or None if it is no record."""
    try:
        record = json.loads(line)
        seq, prev = record["seq"], bytes.fromhex(record["prev"])
        gateway, time = str(record["gateway"]), str(record["time"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return Entry(seq, prev, gateway, time, leaf_hash(line), where) if type(seq) is int else None


def records(store: ReadStore, source: Source) -> Iterator[dict[str, object]]:
    """Yield the records of a gateway in order, as they are, without verifying them."""
    for batch, found in source.batches:
        if found.oldest is None:
            continue
        try:
            for line in lines(store.read(found.oldest).chunks):
                yield json.loads(line)
        except (UndecodableError, ValueError) as error:
            raise AuditError(f"{batch.key} cannot be read: {error}.", hint="Run `audit verify`.") from None
