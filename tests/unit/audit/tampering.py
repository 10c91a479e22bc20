"""Attacks on a store that is a folder, by someone who can write to it; some hold the signing key as well.

The log under attack is `gw-1`, three batches of four records: 0 to 3, 4 to 7, 8 to 11; `gw-2` has one of four.
"""

import gzip
import hashlib
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mcp_sod.audit.canonical import canonical
from mcp_sod.audit.keys import open_signer
from mcp_sod.audit.layout import checkpoint_key
from mcp_sod.audit.merkle import Tree, leaf_hash
from mcp_sod.audit.note import Signer


@dataclass(frozen=True)
class Victim:
    """The store's folder, and the gateway's key for those attackers who stole it."""

    store: Path
    key: Path

    def batch(self, number: int, gateway: str = "gw-1") -> Path:
        """The file of a batch."""
        return sorted(self.store.glob(f"records/v1/*/src={gateway}/*"))[number]

    def checkpoint(self, size: int, gateway: str = "gw-1") -> Path:
        """The file of a checkpoint."""
        return self.store / checkpoint_key(gateway, size)

    def lines(self, number: int) -> list[bytes]:
        """The records of a batch."""
        return gzip.decompress(self.batch(number).read_bytes()).splitlines()

    def replace(self, number: int, lines: list[bytes], *, rename: bool = True) -> None:
        """Put other records into a batch, under a name that fits the new bytes or under the old one."""
        path = self.batch(number)
        body = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
        path.unlink()
        (path.with_name(named(path.name, body)) if rename else path).write_bytes(body)

    def sign(self, size: int, root: bytes) -> None:
        """Sign a checkpoint with the stolen key."""
        path = self.checkpoint(size)
        path.unlink(missing_ok=True)
        path.write_bytes(open_signer(self.key, "mcp-sod/gw-1", create=False).sign(size, root))


def named(name: str, body: bytes) -> str:
    """A batch's name with the digest of other bytes."""
    first, last, _ = name.split("-")
    return f"{first}-{last}-{hashlib.sha256(body).hexdigest()}.jsonl.gz"


def changed(line: bytes, **fields: object) -> bytes:
    """A record with other fields."""
    return canonical({**json.loads(line), **fields})


def rechained(lines: list[bytes]) -> list[bytes]:
    """The records with every `prev` made to fit again, from the second on."""
    fixed = lines[:1]
    for line in lines[1:]:
        fixed.append(changed(line, prev=leaf_hash(fixed[-1]).hex()))
    return fixed


def alter(victim: Victim, number: int, position: int, *, rename: bool) -> None:
    """Change the text of one record."""
    lines = victim.lines(number)
    lines[position] = changed(lines[position], text="nothing happened")
    victim.replace(number, lines, rename=rename)


def rewrite_the_rest(victim: Victim) -> None:
    """Change record 5, and make the chain fit in every record after it."""
    lines = victim.lines(1) + victim.lines(2)
    lines[1] = changed(lines[1], text="nothing happened")
    lines = rechained(lines)
    victim.replace(1, lines[:4])
    victim.replace(2, lines[4:])


def edit(victim: Victim, number: int, change: Callable[[list[bytes]], list[bytes]]) -> None:
    """Replace a batch's records by what `change` makes of them."""
    victim.replace(number, change(victim.lines(number)))


def damage(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Change a file's bytes under its old name."""
    body = path.read_bytes()
    path.unlink()
    path.write_bytes(change(body))


def fork_a_batch(victim: Victim) -> None:
    """Lay a second history of records 4 to 7 beside the first."""
    path = victim.batch(1)
    lines = rechained([changed(line, text="nothing happened") for line in victim.lines(1)])
    body = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
    path.with_name(named(path.name, body)).write_bytes(body)


def sign_another_root(victim: Victim) -> None:
    """With the stolen key, replace a checkpoint in the middle by one over another history."""
    victim.sign(8, Tree().extend([b"x" * 32]).root())


def sign_the_future(victim: Victim) -> None:
    """With the stolen key, sign a checkpoint over records that were never shown."""
    victim.sign(16, bytes(32))


def sign_with_a_new_key(victim: Victim) -> None:
    """Replace a checkpoint by one that a key of the attacker's own signed."""
    root = Tree().root()
    note = Signer("mcp-sod/gw-1", Ed25519PrivateKey.generate()).sign(8, root)
    damage(victim.checkpoint(8), lambda _: note)


def pass_off_a_batch(victim: Victim) -> None:
    """Put the records of gw-2 in the place of the first batch."""
    body = victim.batch(0, "gw-2").read_bytes()
    path = victim.batch(0)
    path.unlink()
    path.with_name(named(path.name, body)).write_bytes(body)


def drop_checkpoints(victim: Victim) -> None:
    """Take every checkpoint away."""
    for size in (4, 8, 12):
        victim.checkpoint(size).unlink()


def cut_the_end(victim: Victim) -> None:
    """Take the last batch away, but not its checkpoint."""
    victim.batch(2).unlink()


def lay_bare(victim: Victim, kept: int) -> None:
    """Take the checkpoints after the first `kept` away."""
    for size in (4, 8, 12)[kept:]:
        victim.checkpoint(size).unlink()


def rewrite_and_merge(victim: Victim) -> None:
    """Rewrite all that follows the first checkpoint, as one batch, and drop the later checkpoints."""
    lines = victim.lines(1) + victim.lines(2)
    lines = rechained([changed(line, text="nothing happened") for line in lines])
    body = gzip.compress(b"".join(line + b"\n" for line in lines), mtime=0)
    folder = victim.batch(0).parent
    for number in (2, 1):
        victim.batch(number).unlink()
    (folder / f"{4:012}-{11:012}-{hashlib.sha256(body).hexdigest()}.jsonl.gz").write_bytes(body)
    lay_bare(victim, 1)


def append_a_batch(victim: Victim) -> None:
    """Add four records that never were after the last checkpoint."""
    last = victim.lines(2)[-1]
    lines = [changed(last, seq=12, prev=leaf_hash(last).hex()), *(changed(last, seq=seq) for seq in (13, 14, 15))]
    body = gzip.compress(b"".join(line + b"\n" for line in rechained(lines)), mtime=0)
    name = f"{12:012}-{15:012}-{hashlib.sha256(body).hexdigest()}.jsonl.gz"
    victim.batch(2).with_name(name).write_bytes(body)


def hide_the_last(victim: Victim, name: str) -> None:
    """Give the last batch a name that hides it, and drop its checkpoint."""
    path = victim.batch(2)
    path.rename(path.with_name(name.format(path.name)))
    victim.checkpoint(12).unlink()


def link_a_batch(victim: Victim) -> None:
    """Put a link to the same bytes in a batch's place."""
    path = victim.batch(1)
    path.rename(victim.store / "elsewhere")
    path.symlink_to(victim.store / "elsewhere")


def move_to_another_day(victim: Victim) -> None:
    """Lay a batch under a day on which nobody looks for it."""
    path = victim.batch(1)
    folder = victim.store / "records/v1/dt=1999-01-01/src=gw-1"
    folder.mkdir(parents=True)
    path.rename(folder / path.name)


def empty(victim: Victim) -> None:
    """Take everything of the gateway away."""
    for path in [*victim.store.glob("records/v1/*/src=gw-1"), *victim.store.glob("checkpoints/v1/src=gw-1")]:
        shutil.rmtree(path)


type Attack = Callable[[Victim], object]

# What the attack is called, what it does, the kind that must be told, and what must be named with it.
ATTACKS: list[tuple[str, Attack, str, str]] = [
    ("alter a record", lambda v: alter(v, 1, 1, rename=False), "altered", "record 5 is not what was written"),
    ("and the name", lambda v: alter(v, 1, 1, rename=True), "altered", "record 5 is not what was written"),
    ("alter the first record", lambda v: alter(v, 0, 0, rename=True), "altered", "record 0 is not"),
    ("alter the last of a batch", lambda v: alter(v, 1, 3, rename=True), "altered", "record 7 is not"),
    ("alter the very last record", lambda v: alter(v, 2, 3, rename=True), "altered", "records 8 to 11"),
    ("rewrite all that follows", rewrite_the_rest, "altered", "records 4 to 7"),
    ("give a record another number", lambda v: edit(v, 1, lambda x: [x[0], changed(x[1], seq=99), *x[2:]]),
     "altered", "record that says it is 99"),
    ("put something else in its place", lambda v: edit(v, 1, lambda x: [x[0], b"{}", *x[2:]]),
     "altered", "record 5 is no record"),
    ("pack the same records again", lambda v: damage(v.batch(1), lambda x: gzip.compress(gzip.decompress(x), 1)),
     "altered", "bytes are not those that its name promises"),
    ("flip a bit", lambda v: damage(v.batch(1), lambda x: x[:40] + bytes([x[40] ^ 64]) + x[41:]),
     "undecodable", "src=gw-1/000000000004"),
    ("cut a batch short", lambda v: damage(v.batch(1), lambda x: x[:-20]), "undecodable", "src=gw-1/000000000004"),
    ("append to a batch", lambda v: damage(v.batch(1), lambda x: x + b"more"), "undecodable", "src=gw-1/000000000004"),
    ("empty a batch", lambda v: damage(v.batch(1), lambda _: b""), "undecodable", "src=gw-1/000000000004"),
    ("drop a record", lambda v: edit(v, 1, lambda x: [x[0], *x[2:]]), "missing", "record 5: not in it"),
    ("drop the end of a batch", lambda v: edit(v, 1, lambda x: x[:2]), "missing", "records 6 to 7: not in it"),
    ("drop a batch", lambda v: v.batch(1).unlink(), "missing", "records 4 to 7 before it"),
    ("drop the first batch", lambda v: v.batch(0).unlink(), "missing", "records 0 to 3 before it"),
    ("drop the last batch", cut_the_end, "truncated", "12 records, but there are 8"),
    ("swap two records", lambda v: edit(v, 1, lambda x: [x[0], x[2], x[1], x[3]]), "reordered", "record 5 stands"),
    ("repeat a record", lambda v: edit(v, 1, lambda x: [x[0], x[1], *x[1:]]), "duplicated", "record 5 is there more"),
    ("lay a second history beside it", fork_a_batch, "fork", "records 4 to 7: also in"),
    ("sign another root", sign_another_root, "fork", "another history of the first 8 records"),
    ("sign the future", sign_the_future, "truncated", "16 records, but there are 12"),
    ("sign with a new key", sign_with_a_new_key, "signature", "not signed by a key that was given"),
    ("alter a checkpoint", lambda v: damage(v.checkpoint(8), lambda x: x.replace(b"\n8\n", b"\n9\n")),
     "signature", "src=gw-1/000000000008"),
    ("replay an old checkpoint", lambda v: damage(v.checkpoint(12), lambda _: v.checkpoint(4).read_bytes()),
     "swapped", "the checkpoint is over 4 records"),
    ("take another gateway's checkpoint",
     lambda v: damage(v.checkpoint(4), lambda _: v.checkpoint(4, "gw-2").read_bytes()),
     "swapped", "the checkpoint is of 'mcp-sod/gw-2'"),
    ("take another gateway's records", pass_off_a_batch, "swapped", "record 0 is of 'gw-2'"),
    ("drop a checkpoint", lambda v: v.checkpoint(8).unlink(), "missing", "checkpoints/v1/src=gw-1/000000000008"),
    ("drop all checkpoints", drop_checkpoints, "unsigned", "no checkpoint covers its records"),
    ("drop the last checkpoint", lambda v: lay_bare(v, 2), "unsigned", "records 8 to 11: no checkpoint covers them"),
    ("rewrite and merge all that follows", rewrite_and_merge, "unsigned", "records 4 to 11: no checkpoint covers"),
    ("append a forged batch", append_a_batch, "unsigned", "records 12 to 15: no checkpoint covers them"),
    ("hide the last batch", lambda v: hide_the_last(v, ".{}"), "misplaced", "/.000000000008-"),
    ("hide it as a leftover", lambda v: hide_the_last(v, ".{}.tmp"), "misplaced", "/.000000000008-"),
    ("call it something else", lambda v: hide_the_last(v, "{}.bak"), "misplaced", "gz.bak"),
    ("put a link in its place", link_a_batch, "unlocked", "not a plain file"),
    ("move it to another day", move_to_another_day, "misplaced", "it lies under 1999-01-01"),
    ("take the whole log away", empty, "missing", "gw-1: there is nothing of it"),
]  # fmt: skip
