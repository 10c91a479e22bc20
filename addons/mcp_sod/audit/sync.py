"""Group commit: many appended records reach the disk with one fdatasync, off the event loop."""

import asyncio
import errno
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial


class GroupSync:
    """Makes the spool's open segment durable, together with those it took over from.

    A group gathers for `delay` seconds; whatever is written while one group is on its way to the disk goes with the
    next. After an error nothing is taken back: the kernel may have dropped the pages, so `error` stays for good.
    """

    def __init__(self, folder: int, delay: float) -> None:
        """Take the descriptor of the folder in which new segments get their names."""
        self.error: BaseException | None = None
        self._folder = folder
        self._delay = delay
        self._files: list[int] = []  # the last is the open segment; the others are closed once they are durable
        self._group: asyncio.Future[None] | None = None  # those who wait for the next fdatasync
        self._running = False
        self._thread = ThreadPoolExecutor(1, "audit-sync")

    def adopt(self, file: int) -> None:
        """Go on with a new segment, whose name is not durable yet; the one before is closed after its last sync."""
        self._files.append(file)

    def due(self) -> asyncio.Future[None]:
        """Return a future that is done once all that was written until now is durable, or `error` is set.

        It is shared: await it through `asyncio.shield`, or one cancelled caller cancels them all.
        """
        if self._group is None:
            self._group = asyncio.get_running_loop().create_future()
            if not self._running:
                self._gather()
        return self._group

    async def close(self) -> None:
        """Wait until everything is durable, then close the files."""
        await self.due()
        self._thread.shutdown()
        for file in self._files:
            os.close(file)
        self._files.clear()

    def _gather(self) -> None:
        asyncio.get_running_loop().call_later(self._delay, self._start)

    def _start(self) -> None:
        group, self._group, self._running = self._group, None, True
        files = tuple(self._files)
        work = asyncio.get_running_loop().run_in_executor(self._thread, _sync, self._folder, files)
        work.add_done_callback(partial(self._finish, group, files[:-1]))

    def _finish(self, group: asyncio.Future[None] | None, retired: tuple[int, ...], work: asyncio.Future[None]) -> None:
        self._running = False
        self.error = self.error or work.exception()
        for file in retired:
            self._files.remove(file)
            os.close(file)
        if group and not group.done():
            group.set_result(None)
        if self._group:
            self._gather()


def _sync(folder: int, files: tuple[int, ...]) -> None:
    """Sync the segments in the order in which they were written, and their names."""
    for file in files:
        os.fdatasync(file)
    if os.fstat(files[-1]).st_nlink == 0:
        raise FileNotFoundError(errno.ENOENT, "the open segment was deleted")
    os.fsync(folder)
