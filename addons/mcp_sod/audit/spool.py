"""The local spool: what is written but not yet in the store, and how to go on after a crash.

lock              held by the one process that writes here
mark.json         where the log stood after the last frozen batch: size, last leaf hash, peaks of the tree
<first>.jsonl     segments: records as they were written; the newest one grows
frozen/<…>.gz     batches with their final bytes and name, waiting for the store, each with its checkpoint (.note)
"""

import fcntl
import json
import os
from dataclasses import dataclass
from pathlib import Path

from mcp_sod.audit.durable import make_folder, write_file
from mcp_sod.audit.merkle import Tree, leaf_hash
from mcp_sod.errors import AuditError


@dataclass(frozen=True, slots=True)
class Segment:
    """A closed file of records with their leaf hashes; `size` is its length in bytes."""

    path: Path
    first: int
    leaves: tuple[bytes, ...]
    size: int


@dataclass(frozen=True, slots=True)
class Recovered:
    """What was found in the spool.

    `frozen` is the log's state after the last frozen batch; `segments` follow it, and after those the log has
    `size` records, of which `last` is the last leaf hash. `cut` counts the bytes of a torn, never acknowledged
    record; `set_aside` names segments that lost their beginning when the power failed before it was synced.
    """

    frozen: Tree
    segments: tuple[Segment, ...]
    size: int
    last: bytes
    cut: int = 0
    set_aside: tuple[str, ...] = ()


def lock(folder: Path) -> int:
    """Return the descriptor that holds the spool for this process; another holder is an AuditError."""
    make_folder(folder)
    fd = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise AuditError(
            f"The spool {folder} is in use by another gateway process.",
            hint="Stop that one, or give this gateway a name and a state folder of its own.",
        ) from None
    return fd


def read_mark(folder: Path, gateway: str) -> Tree:
    """Return the state of the log after the last frozen batch; the very first start makes the mark."""
    path = folder / "mark.json"
    if not path.exists() and not _segments(folder):
        write_mark(folder, gateway, Tree())
    try:
        mark = json.loads(path.read_bytes())
        peaks = tuple(bytes.fromhex(peak) for peak in mark["peaks"])
        owner, tree = mark["gateway"], Tree(mark["size"], bytes.fromhex(mark["last"]), peaks)
    except (ValueError, KeyError, TypeError, FileNotFoundError):
        raise AuditError(f"The audit state {path} is missing or cannot be read.", hint=_RESTORE) from None
    if owner != gateway:
        raise AuditError(
            f"The spool {folder} belongs to the gateway {owner}, not to {gateway}.",
            hint="Use the old name, or give the new one a state folder of its own.",
        )
    return tree


def write_mark(folder: Path, gateway: str, tree: Tree) -> None:
    """Replace the mark, durably."""
    peaks = [peak.hex() for peak in tree.peaks]
    mark = {"gateway": gateway, "size": tree.size, "last": tree.last.hex(), "peaks": peaks}
    write_file(folder / "mark.json", json.dumps(mark).encode())


def recover(folder: Path, gateway: str) -> Recovered:
    """Read what the last process left, and repair what a crash can leave behind."""
    frozen = read_mark(folder, gateway)
    size, last = frozen.size, frozen.last
    segments: list[Segment] = []
    aside: list[str] = []
    cut = 0
    for first, path in _segments(folder):
        if first < frozen.size:
            path.unlink()  # its batch is frozen: the mark is written after the batch and before this
        elif first != size:
            aside.append(path.rename(path.with_suffix(".aside")).name)
        else:
            cut += _cut_torn(path)
            leaves = _replay(path, size, last)
            if leaves:
                segments.append(Segment(path, first, leaves, path.stat().st_size))
                size, last = size + len(leaves), leaves[-1]
            else:
                path.unlink()
    return Recovered(frozen, tuple(segments), size, last, cut, tuple(aside))


def segment_path(folder: Path, first: int) -> Path:
    """Return the place of the segment that begins with record `first`."""
    return folder / f"{first:012}.jsonl"


def _segments(folder: Path) -> list[tuple[int, Path]]:
    return [(int(path.stem), path) for path in sorted(folder.glob("*.jsonl")) if path.stem.isdigit()]


def _cut_torn(path: Path) -> int:
    """Cut the bytes after the last newline: a record that was never acknowledged; return how many there were."""
    whole, newline, torn = path.read_bytes().rpartition(b"\n")
    if torn:
        os.truncate(path, len(whole) + len(newline))
    return len(torn)


def _replay(path: Path, size: int, last: bytes) -> tuple[bytes, ...]:
    """Return the leaf hashes of a segment; a whole line that does not follow the one before is an AuditError."""
    leaves: list[bytes] = []
    for number, line in enumerate(path.read_bytes().split(b"\n")[:-1]):
        try:
            record = json.loads(line)
            follows = (record["seq"], record["prev"]) == (size + number, last.hex())
        except (ValueError, KeyError, TypeError):
            follows = False
        if not follows:
            sentence = f"The spool was altered: {path}, line {number + 1} does not follow the record before it."
            raise AuditError(sentence, hint=_RESTORE)
        last = leaf_hash(line)
        leaves.append(last)
    return tuple(leaves)


_RESTORE = (
    "Keep the state folder as it is, as evidence; restore it from a backup, or start a new log: "
    "a new gateway name and an empty state folder."
)
