"""What verification says."""

import re
from dataclasses import dataclass
from typing import Literal

from mcp_sod.audit.layout import NAME
from mcp_sod.errors import AuditError

_END = re.compile(rf"(?:(?P<gateway>{NAME.pattern}):)?(?P<size>\d{{1,12}})(?::(?P<root>[0-9a-f]{{64}}))?", re.ASCII)

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
    "misplaced",  # a batch under another day than its first record's, or an object that no gateway put there
    "swapped",  # a record or checkpoint of another gateway
    "hidden",  # a delete marker covers an object
    "shadowed",  # a later version with other bytes covers an object
    "unlocked",  # a version is not locked as the policy asks
]


@dataclass(frozen=True, slots=True)
class End:
    """A log had this many records, and this root; the log of any gateway, or with any root, where those are empty."""

    gateway: str
    size: int
    root: str  # in hex

    @classmethod
    def parse(cls, text: str) -> "End":
        """Read `[GATEWAY:]SIZE[:ROOT]`, or raise an AuditError."""
        match = _END.fullmatch(text)
        if not match:
            raise AuditError(f"{text!r} is no end of a log.", hint="Write SIZE, GATEWAY:SIZE or GATEWAY:SIZE:ROOT.")
        return cls(match["gateway"] or "", int(match["size"]), match["root"] or "")

    def __str__(self) -> str:
        """Return what `parse` reads."""
        return f"{self.gateway}:{self.size}:{self.root}"


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong: what kind, in which object, and a sentence that names the gateway and the records."""

    kind: Kind
    where: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Report:
    """The outcome of a verification; `notes` are worth knowing, but no sign of tampering.

    `ends` tells, for each log, how far signed checkpoints vouch for it: what to ask for at least the next time.
    """

    records: int
    checkpoints: int
    first_time: str
    last_time: str
    guarantee: str
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]
    ends: tuple[End, ...]

    @property
    def ok(self) -> bool:
        """Return whether nothing is wrong."""
        return not self.problems
