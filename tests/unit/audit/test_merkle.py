"""The Merkle tree, against RFC 6962's recursive definition and its published vectors."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp_sod.audit.merkle import Tree, leaf_hash, node_hash

# The leaves and roots that Certificate Transparency implementations share as test vectors.
LEAVES = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def definition(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    k = 1
    while k * 2 < len(leaves):
        k *= 2
    return node_hash(definition(leaves[:k]), definition(leaves[k:]))


@pytest.mark.parametrize("size", ROOTS)
def test_published_roots(size: int) -> None:
    """The roots are those of the published vectors."""
    tree = Tree().extend(leaf_hash(bytes.fromhex(leaf)) for leaf in LEAVES[:size])
    assert tree.root().hex() == ROOTS[size]


@given(st.lists(st.binary(max_size=8), max_size=70))
def test_equals_the_definition(leaves: list[bytes]) -> None:
    """For any leaves, the incremental root is the recursive one, and the state is logarithmic."""
    tree = Tree().extend(map(leaf_hash, leaves))
    assert tree.root() == definition(leaves)
    assert len(tree.peaks) == len(leaves).bit_count()
    assert tree.size == len(leaves)
