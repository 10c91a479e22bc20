"""Where things are in the store: the names of batches and checkpoints."""

import re
from dataclasses import dataclass

RECORDS = "records/v1/"
CHECKPOINTS = "checkpoints/v1/"

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")  # a gateway's name is part of object keys
_BATCH = re.compile(
    rf"{RECORDS}dt=(?P<day>\d{{4}}-\d\d-\d\d)/src=(?P<gateway>{NAME.pattern})/"
    r"(?P<first>\d{12})-(?P<last>\d{12})-(?P<digest>[0-9a-f]{64})\.jsonl\.gz",
    re.ASCII,
)
_CHECKPOINT = re.compile(rf"{CHECKPOINTS}src=(?P<gateway>{NAME.pattern})/(?P<size>\d{{12}})", re.ASCII)


@dataclass(frozen=True, slots=True)
class Batch:
    """Records `first` to `last` of a gateway, gzipped; `digest` is the SHA-256 of those bytes in hex.

    `day` is the UTC date of the first record, so that a query by date need not open every batch.
    """

    gateway: str
    day: str
    first: int
    last: int
    digest: str

    @property
    def key(self) -> str:
        """Return the name of the object."""
        span = f"{self.first:012}-{self.last:012}-{self.digest}"
        return f"{RECORDS}dt={self.day}/src={self.gateway}/{span}.jsonl.gz"


def batch_of(key: str) -> Batch | None:
    """Return the batch that a key names, or None for a key of another kind."""
    match = _BATCH.fullmatch(key)
    if not match:
        return None
    first, last = int(match["first"]), int(match["last"])
    return Batch(match["gateway"], match["day"], first, last, match["digest"]) if first <= last else None


def checkpoint_key(gateway: str, size: int) -> str:
    """Return the name of the checkpoint over the first `size` records."""
    return f"{CHECKPOINTS}src={gateway}/{size:012}"


def checkpoint_of(key: str) -> tuple[str, int] | None:
    """Return the gateway and the size that a checkpoint's key names, or None for a key of another kind."""
    match = _CHECKPOINT.fullmatch(key)
    return (match["gateway"], int(match["size"])) if match else None


def is_leftover(key: str) -> bool:
    """Return whether a key is the hidden file of a put that a crash interrupted, or that is still under way."""
    name = key.rpartition("/")[2]
    return name.startswith(".") and name.endswith(".tmp")
