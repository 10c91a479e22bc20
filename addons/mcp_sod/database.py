"""The gateway's database: one SQLite file for what outlives a restart; several gateways of one machine may share it."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa

from mcp_sod.errors import StartError, Unavailable


class Database:
    """The open file. What its engine does blocks, so `run` does it in one thread, in the order asked."""

    def __init__(self, file: Path) -> None:
        """Open or make the file; raises StartError when it cannot be used."""
        self._file = file
        self._thread = ThreadPoolExecutor(1, "database")
        try:
            file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            self.engine = sa.create_engine(f"sqlite:///{file}", connect_args={"timeout": 5.0})
            sa.event.listen(self.engine, "connect", _durable)
            self.engine.connect().close()
            file.chmod(0o600)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            raise self._unusable(error) from None

    def create(self, tables: sa.MetaData) -> None:
        """Make the tables that are not there yet; raises StartError."""
        try:
            tables.create_all(self.engine)
        except (OSError, sa.exc.SQLAlchemyError) as error:
            raise self._unusable(error) from None

    async def run[*A, R](self, work: Callable[[*A], R], *args: *A) -> R:
        """Return what the work comes to; raises Unavailable when the file cannot be used."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work, *args)
        except (sa.exc.SQLAlchemyError, OSError, RuntimeError) as error:
            raise Unavailable(f"The gateway's database cannot be used ({type(error).__name__}).",
                              hint="Check the state folder and the disk.") from None  # fmt: skip

    def close(self) -> None:
        """Let go of the file, once what was asked is done."""
        self._thread.shutdown(wait=True, cancel_futures=True)
        self.engine.dispose()

    def _unusable(self, error: Exception) -> StartError:
        why = type(error.__cause__ or error).__name__
        return StartError(f"The database {self._file} cannot be used ({why}).", hint="Check the file and its folder.")


def _durable(connection: sa.engine.interfaces.DBAPIConnection, _record: object) -> None:
    cursor = connection.cursor()
    for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()
