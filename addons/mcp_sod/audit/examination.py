"""One gateway's log under examination: its records against its checkpoints."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

from mcp_sod.audit.batches import Batches, span
from mcp_sod.audit.chaining import Gap, Settled, settle
from mcp_sod.audit.layout import CHECKPOINTS, checkpoint_key
from mcp_sod.audit.merkle import Tree
from mcp_sod.audit.note import Checkpoint, PublicKey, open_note
from mcp_sod.audit.objects import Tell, impostors, open_oldest
from mcp_sod.audit.reader import Object, Source
from mcp_sod.audit.report import End, Kind, Problem
from mcp_sod.audit.store import ReadStore
from mcp_sod.errors import AuditError


@dataclass(frozen=True, slots=True)
class Known:
    """What an auditor knows from elsewhere: who may sign, if the gateway runs right now, how long its log was once."""

    keys: Sequence[PublicKey]
    running: bool = False
    at_least: Sequence[End] = ()


class Examination:
    """One gateway's log: its records against its checkpoints."""

    def __init__(
        self,
        store: ReadStore,
        source: Source,
        known: Known,
        tell: Tell,
        advance: Callable[[], None],
    ) -> None:
        """Take a gateway's objects, what is known beside them, where to tell, and what to call per batch."""
        self.records = 0
        self.checkpoints = 0
        self.first_time = self.last_time = ""
        self.notes: list[str] = []
        self._store = store
        self._source = source
        self._known = known
        self._ends = [end for end in known.at_least if end.gateway in ("", source.gateway)]
        self._told: set[tuple[Kind, str]] = set()
        self._told_to = tell
        self._batches = Batches(store, source, self._tell, advance)
        self._folder = f"{CHECKPOINTS}src={source.gateway}/"
        self._roots: dict[int, bytes] = {}
        self._tree: Tree | None = Tree()  # None once records are missing: no root can be computed after that
        self._matched = 0  # size of the last checkpoint that the records agree with
        self._doubted: list[int] = []  # sizes of checkpoints after it that they do not agree with

    @property
    def end(self) -> End | None:
        """Return how far checkpoints vouch for the records, once they are checked."""
        root = self._roots.get(self._matched)
        return End(self._source.gateway, self._matched, root.hex()) if root else None

    def check(self) -> None:
        """Look at everything, and tell what is wrong."""
        for size, found in self._source.checkpoints:
            self._checkpoint(size, found)
        for item in settle(self._batches):
            if isinstance(item, Gap):
                self._tree = None
            else:
                self._record(item)
        self._conclude()

    def _checkpoint(self, size: int, found: Object) -> None:
        body = open_oldest(self._store, self._source.gateway, found, self._tell)
        bodies = [body] if body else []
        bodies += [self._store.read(version) for version in impostors(self._store, found)]
        for each in bodies:
            try:
                stated = open_note(b"".join(islice(each.chunks, 2)), self._known.keys)
            except AuditError as error:
                self._problem("signature", found.key, error.sentence.removesuffix("."))
            else:
                self._statement(size, found.key, stated)

    def _statement(self, size: int, key: str, stated: Checkpoint) -> None:
        if stated.origin != f"mcp-sod/{self._source.gateway}":
            self._problem("swapped", key, f"the checkpoint is of {stated.origin!r}")
            return
        if stated.size != size:
            self._problem("swapped", key, f"the checkpoint is over {stated.size} records")
        if self._roots.setdefault(stated.size, stated.root) != stated.root:
            self._problem("fork", key, f"two different roots are signed for {stated.size} records")
        self.checkpoints += 1

    def _record(self, item: Settled) -> None:
        record = item.entry
        self.records += 1
        self.first_time = self.first_time or record.time
        self.last_time = record.time
        if item.altered:
            self._problem("altered", record.where, f"record {record.seq} is not what was written")
        if self._tree:
            self._tree = self._tree.add(item.leaf)
            if root := self._roots.get(self._tree.size):
                self._compare(self._tree, root)
            for end in self._ends:
                if end.size == self._tree.size and end.root not in ("", self._tree.root().hex()):
                    what = f"the first {end.size} records are not those whose root was given"
                    self._problem("fork", self._folder, what)

    def _compare(self, tree: Tree, root: bytes) -> None:
        """Remember whether the records agree with a checkpoint; if they do, an earlier one that did not is a fork."""
        if tree.root() != root:
            self._doubted.append(tree.size)
            return
        self._matched = tree.size
        for size in self._doubted:
            key = checkpoint_key(self._source.gateway, size)
            self._problem("fork", key, f"it signs another history of the first {size} records")
        self._doubted.clear()

    def _conclude(self) -> None:
        gateway, batches = self._source.gateway, self._source.batches
        self._covered()
        size = batches[-1][0].last + 1 if batches else 0
        if self._doubted:
            self._doubt(self._doubted[0])
        for key in self._batches.changed:
            if ("altered", key) not in self._told:
                self._problem("altered", key, "its bytes are not those that its name promises")
        signed = {signed for signed, _ in self._source.checkpoints}
        for batch, _ in batches[:-1]:  # the last one's is looked at with the records that none covers
            if batch.last + 1 not in signed:
                key = checkpoint_key(gateway, batch.last + 1)
                self._problem("missing", key, "the checkpoint that went with a batch is not there")
        top = max(self._roots, default=0)
        if top > size:
            key = checkpoint_key(gateway, top)
            self._problem("truncated", key, f"it speaks of {top} records, but there are {size}")
        self._long_enough()
        if self._tree is None and self._matched < top:
            self.notes.append(
                f"{gateway}: from record {self._matched} on, records could only be checked against each other."
            )

    def _covered(self) -> None:
        """Tell of records after the last checkpoint: while the gateway runs, its newest batch may lack one."""
        batches, top = self._source.batches, max(self._roots, default=0)
        bare = [batch for batch, _ in batches if batch.last >= top]
        if not bare:
            return
        uncovered = span(top, batches[-1][0].last)
        if not self._roots:
            self._problem("unsigned", self._folder, "no checkpoint covers its records")
        elif self._known.running and len(bare) == 1 and bare[0].first == top:
            self.notes.append(f"{self._source.gateway}: {uncovered}: chained, but no checkpoint covers them yet.")
        else:
            self._problem("unsigned", self._folder, f"{uncovered}: no checkpoint covers them")

    def _long_enough(self) -> None:
        for end in self._ends:
            if end.size > self._matched:
                what = f"checkpoints vouch for {self._matched} records, but there were {end.size} at least"
                self._problem("truncated", self._folder, what)

    def _doubt(self, size: int) -> None:
        """Tell that the records before a checkpoint are not those that it signs, unless one was named already."""
        for batch, found in self._source.batches:
            if batch.first < size <= batch.last + 1 and ("altered", found.key) not in self._told:
                what = f"{span(self._matched, size - 1)}: not, or not all, what checkpoint {size} signs"
                self._problem("altered", found.key, what)

    def _problem(self, kind: Kind, where: str, what: str) -> None:
        self._tell(Problem(kind, where, f"{self._source.gateway}: {what}."))

    def _tell(self, problem: Problem) -> None:
        self._told.add((problem.kind, problem.where))
        self._told_to(problem)
