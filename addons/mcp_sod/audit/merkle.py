"""An append-only log as an RFC 6962 Merkle tree, kept as the few hashes that the next root needs."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

NOTHING = bytes(32)  # what the first record names as the hash of the record before it


def leaf_hash(line: bytes) -> bytes:
    """Return the hash of one record's line, without its newline (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x00" + line).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node (RFC 6962, section 2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Tree:
    """A log of `size` records: the leaf hash of the last one, and the roots of its perfect subtrees from left to right.

    There is one peak for every bit that is set in `size`, so the state is logarithmic in the length of the log.
    """

    size: int = 0
    last: bytes = NOTHING
    peaks: tuple[bytes, ...] = ()

    def add(self, leaf: bytes) -> "Tree":
        """Return the tree with one more leaf."""
        peaks, node, size = self.peaks, leaf, self.size
        while size & 1:
            node = node_hash(peaks[-1], node)
            peaks = peaks[:-1]
            size >>= 1
        return Tree(self.size + 1, leaf, (*peaks, node))

    def extend(self, leaves: Iterable[bytes]) -> "Tree":
        """Return the tree with several more leaves."""
        tree = self
        for leaf in leaves:
            tree = tree.add(leaf)
        return tree

    def root(self) -> bytes:
        """Return the Merkle tree hash of all the leaves (RFC 6962, section 2.1); of no leaves, the hash of nothing."""
        if not self.peaks:
            return hashlib.sha256(b"").digest()
        root = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            root = node_hash(peak, root)
        return root
