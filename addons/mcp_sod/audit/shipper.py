"""The shipper: takes closed segments to the store, in order, and tells how far behind it is."""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from mcp_sod.audit.journal import Journal
from mcp_sod.audit.layout import CHECKPOINTS, checkpoint_key
from mcp_sod.audit.store import Store
from mcp_sod.errors import AuditError

_TICK = 0.25  # seconds between looks at the journal
_PATIENCE = (0.5, 30.0)  # seconds before the first retry and at most
_FAREWELL = 5.0  # seconds that `flush` takes at most


class ForkError(AuditError):
    """Two logs would go by one name."""


class Shipper:
    """Freezes segments, and puts each batch with its checkpoint; while idle, the last checkpoint once more.

    That repeated put carries the same bytes. It shows, before the next record needs it, whether the store is still
    there, and on S3 the dates of those versions tell by the server's clock that the gateway was alive.
    """

    def __init__(
        self,
        journal: Journal,
        store: Store,
        *,
        every: float = 5.0,
        batch_bytes: int = 1024 * 1024,
        checkpoint_every: float = 60.0,
    ) -> None:
        """Ship a batch after `every` seconds or `batch_bytes`, and a checkpoint at least all `checkpoint_every` s."""
        journal.segment_bytes = batch_bytes
        self._journal = journal
        self._store = store
        self._every = every
        self._checkpoint_every = checkpoint_every
        self._failing: str | None = "The store has not answered yet."
        self._tries = 0
        self._retry_at = 0.0
        self._rotated = self._spoken = time.monotonic()
        self._checked = False
        self._turn = asyncio.Lock()
        self._thread = ThreadPoolExecutor(1, "audit-ship")  # one: files and puts keep their order even if cancelled

    @property
    def backlog(self) -> int:
        """Return how many bytes are not in the store yet."""
        return self._journal.waiting

    @property
    def failing(self) -> str | None:
        """Return why the last try, or as yet none, got through, as a sentence safe to show; None if all is well."""
        return self._failing

    async def check(self) -> None:
        """Raise a ForkError if the store holds more of this gateway than its own state knows.

        A store that the writer may not list cannot be asked; there, verification finds the fork.
        """
        journal = self._journal
        prefix = f"{CHECKPOINTS}src={journal.gateway}/"
        known = checkpoint_key(journal.gateway, journal.shipped)
        found = await self._in_thread(self._store.next_key, prefix, known)
        if found and found not in {frozen.checkpoint_key for frozen in journal.outbox.pending}:
            raise ForkError(
                f"The store holds {found}, which the state folder of {journal.gateway} knows nothing of.",
                hint="Restore the state folder, or give this gateway a new name: one name is one log.",
            )
        self._checked, self._failing = True, None

    async def run(self) -> None:
        """Ship for ever; whatever the store does, try again. A fork, or a fault in here, breaks the journal."""
        try:
            while True:
                async with self._turn:
                    await self._step()
                await asyncio.sleep(_TICK)
        except Exception as error:  # a gateway whose records stay behind unseen must not go on
            self._failing = str(error)
            self._journal.fail(f"its shipper ended: {error}")
            raise

    async def flush(self) -> None:
        """Ship all that is there, within a few seconds; what does not get through stays in the spool."""
        try:
            async with asyncio.timeout(_FAREWELL), self._turn:
                self._journal.rotate()
                await self._freeze()
                await self._ship()
        except TimeoutError:
            self._failing = f"The store took no more records within {_FAREWELL:.0f} s."
        except (AuditError, OSError) as error:
            self._defer(error)

    async def _step(self) -> None:
        now = time.monotonic()
        try:
            if now >= self._rotated + self._every and not self._journal.outbox.pending:
                self._rotated = now
                self._journal.rotate()
            await self._freeze()
            if now >= self._retry_at:
                await self._ship()
        except ForkError:
            raise
        except (AuditError, OSError) as error:
            self._defer(error)

    async def _freeze(self) -> None:
        while self._journal.closed:
            await self._in_thread(self._freeze_first)

    async def _ship(self) -> None:
        if not self._checked:
            await self.check()
        while self._journal.outbox.pending:
            await self._in_thread(self._send_first)
            self._succeeded()
            await self._freeze()
        if time.monotonic() >= self._spoken + self._checkpoint_every or self._failing:
            await self._in_thread(self._repeat)
            self._succeeded()

    def _freeze_first(self) -> None:
        if self._journal.closed:
            self._journal.outbox.freeze(self._journal.closed[0], self._journal.signer)
            self._journal.closed.popleft()

    def _send_first(self) -> None:
        if self._journal.outbox.pending:
            frozen = self._journal.outbox.pending[0]
            self._store.put(frozen.batch.key, frozen.path.read_bytes())
            self._store.put(frozen.checkpoint_key, frozen.note.read_bytes())
            self._journal.outbox.drop(frozen)

    def _repeat(self) -> None:
        end = self._journal.outbox.end
        if end.size:
            note = self._journal.signer.sign(end.size, end.root())
            self._store.put(checkpoint_key(self._journal.gateway, end.size), note)

    def _succeeded(self) -> None:
        self._failing, self._tries, self._spoken = None, 0, time.monotonic()

    def _defer(self, error: AuditError | OSError) -> None:
        self._failing = str(error) if isinstance(error, AuditError) else f"The spool failed: {error.strerror}."
        first, most = _PATIENCE
        wait = min(first * 2**self._tries, most) * random.uniform(0.5, 1)  # noqa: S311 (spreads retries, no secret)
        self._tries += 1
        self._retry_at = time.monotonic() + wait

    async def _in_thread[**P, T](self, work: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        call = partial(work, *args, **kwargs)
        return await asyncio.get_running_loop().run_in_executor(self._thread, call)
