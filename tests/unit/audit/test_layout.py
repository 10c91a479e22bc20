"""The names of objects."""

import pytest
from mcp_sod.audit.layout import Batch, batch_of, checkpoint_key, checkpoint_of

BATCH = Batch("gw-1", "2026-01-31", 5, 9, "ab" * 32)


def test_keys_round_trip() -> None:
    """A key says what it names."""
    assert BATCH.key == f"records/v1/dt=2026-01-31/src=gw-1/000000000005-000000000009-{'ab' * 32}.jsonl.gz"
    assert batch_of(BATCH.key) == BATCH
    assert checkpoint_key("gw-1", 10) == "checkpoints/v1/src=gw-1/000000000010"
    assert checkpoint_of(checkpoint_key("gw-1", 10)) == ("gw-1", 10)


@pytest.mark.parametrize(
    "key",
    [
        "",
        BATCH.key + "x",
        BATCH.key.replace("gw-1", "../x"),
        BATCH.key.replace("000000000009", "000000000004"),
        BATCH.key.replace("0000000005", "000000000\N{ARABIC-INDIC DIGIT FIVE}"),
    ],
)
def test_other_keys_name_nothing(key: str) -> None:
    """A key of another shape, with a path in the gateway's name, or with first after last, is none of ours."""
    assert batch_of(key) is None
    assert checkpoint_of(key) is None
