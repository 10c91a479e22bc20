"""What verification says."""

from dataclasses import dataclass
from typing import Literal

type Kind = Literal[
    "altered",  # a record or batch is not what was signed
    "undecodable",  # a batch cannot be read at all
    "missing",  # records or checkpoints that must be there are not
    "reordered",  # a record stands in another place than its seq says
    "duplicated",  # a seq appears twice in one batch
    "fork",  # two histories: two batches for one seq, or two roots for one size
    "signature",  # a checkpoint is not signed by the gateway's key
    "unsigned",  # records without any checkpoint
    "truncated",  # a checkpoint speaks of more records than there are
    "swapped",  # a record or checkpoint of another gateway
    "hidden",  # a delete marker covers an object
    "shadowed",  # a later version with other bytes covers an object
    "unlocked",  # a version is not locked as the policy asks
]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what kind, in which object, and a sentence that names the gateway and the records."""

    kind: Kind
    where: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a verification; `notes` are worth knowing, but no sign of tampering."""

    records: int
    checkpoints: int
    first_time: str
    last_time: str
    guarantee: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.problems
