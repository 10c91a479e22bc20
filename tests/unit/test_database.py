"""The database's file."""

import asyncio
import stat
from pathlib import Path

import pytest
import sqlalchemy as sa
from mcp_sod.database import Database
from mcp_sod.errors import StartError, Unavailable


async def test_what_blocks_is_done_in_a_thread_one_after_the_other(tmp_path: Path) -> None:
    """In the order asked, while the event loop goes on."""
    database, done = Database(tmp_path / "d.sqlite"), list[int]()
    await asyncio.gather(*(database.run(done.append, number) for number in range(20)))
    assert done == list(range(20))
    database.close()


async def test_a_fault_is_told_without_a_word_of_sql(tmp_path: Path) -> None:
    """And what is asked after the end is refused as well."""
    database = Database(tmp_path / "d.sqlite")

    def read() -> None:
        with database.engine.connect() as connection:
            connection.execute(sa.text("SELECT secret FROM nowhere"))

    with pytest.raises(Unavailable, match=r"^The gateway's database cannot be used \(OperationalError\)\. Check"):
        await database.run(read)
    assert await database.run(lambda: 7) == 7
    database.close()
    with pytest.raises(Unavailable):
        await database.run(lambda: 7)


def test_the_file_is_private_and_durable(tmp_path: Path) -> None:
    """Nobody else on the machine may read it, and what is written is on the disk."""
    database = Database(tmp_path / "state" / "d.sqlite")
    assert stat.S_IMODE((tmp_path / "state").stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / "state" / "d.sqlite").stat().st_mode) == 0o600
    with database.engine.connect() as connection:
        pragmas = [connection.execute(sa.text(f"PRAGMA {name}")).scalar() for name in ("journal_mode", "synchronous")]
    assert pragmas == ["wal", 2]
    database.close()


@pytest.mark.parametrize("wrong", ["a folder", "a file for a folder", "no database"])
def test_a_file_that_cannot_be_used_is_named(wrong: str, tmp_path: Path) -> None:
    """What cannot be opened is a StartError with the file's name and a remedy."""
    file = tmp_path / "d.sqlite"
    if wrong == "a folder":
        file.mkdir()
    elif wrong == "no database":
        file.write_bytes(b"not a database " * 100)
    else:
        (tmp_path / "x").touch()
        file = tmp_path / "x" / "d.sqlite"
    with pytest.raises(StartError, match=r"d\.sqlite cannot be used .*Check the file and its folder"):
        Database(file)
