"""Bodies at rest: opened by the key and the row with which they were sealed, and by nothing else."""

import dataclasses
from typing import Any

import pytest
from mcp_sod.delivery.sealing import Seal
from mcp_sod.errors import Unavailable

from tests.unit.delivery.making import parcel_of

BODY = b'{"result":{}}'


def test_a_body_comes_back() -> None:
    """Sealed and opened it is the same; in between nothing of it can be read, and no two sealings are alike."""
    seal, parcel = Seal(b"k" * 32), parcel_of()
    closed = seal.closed(parcel, BODY)
    assert closed.body is not None
    assert BODY not in closed.body
    assert closed.size == len(BODY)
    assert closed.body != seal.closed(parcel, BODY).body
    assert Seal(b"k" * 32).opened(closed) == BODY


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "r-other"}, {"account": "x"}, {"behind": frozenset()}, {"role": "x"}, {"expires": 9}, {"created": 9},
        {"upstream": "x"}, {"tool": "x"}, {"policy": "x"}, {"reference": "x"},
    ],
)  # fmt: skip
def test_a_body_belongs_to_its_row(changed: dict[str, Any]) -> None:
    """With any fact of its row changed it does not open; with what may change (its state), it does."""
    seal = Seal(b"k" * 32)
    closed = seal.closed(parcel_of(), BODY)
    with pytest.raises(Unavailable, match="was altered"):
        seal.opened(dataclasses.replace(closed, **changed))
    assert seal.opened(dataclasses.replace(closed, state="collected", changed=99, collector="v")) == BODY


@pytest.mark.parametrize("cut", [0, 1, 9, 21])
def test_half_a_body_does_not_open(cut: int) -> None:
    """A body that lacks bytes is refused, and so is none at all."""
    seal = Seal(b"k" * 32)
    closed = seal.closed(parcel_of(), BODY)
    with pytest.raises(Unavailable):
        seal.opened(dataclasses.replace(closed, body=(closed.body or b"")[:cut]))
    with pytest.raises(Unavailable):
        seal.opened(dataclasses.replace(closed, body=None))


def test_another_key_is_told_from_an_altered_row() -> None:
    """Where gateways that share a database have keys of their own, the refusal says what they need."""
    closed = Seal(b"k" * 32).closed(parcel_of(), BODY)
    with pytest.raises(Unavailable, match="another key") as refused:
        Seal(b"x" * 32).opened(closed)
    assert "keys/delivery.key" in refused.value.hint
