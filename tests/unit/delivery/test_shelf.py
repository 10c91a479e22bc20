"""Parcels in a real database: every change of state happens once, or not at all."""

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mcp_sod.database import Database
from mcp_sod.delivery import shelf as limits
from mcp_sod.delivery.shelf import REMEMBERED, Shelf

from tests.unit.delivery.making import NOW, parcel_of

ID = "r-0123456789abcdef"
KEPT = dataclasses.replace(parcel_of(), body=b"sealed", size=6)
END = NOW + 60


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    """A shelf with one expected parcel."""
    database = Database(tmp_path / "db.sqlite")
    built = Shelf(database)
    assert built.expect(parcel_of())
    yield built
    database.close()


def state(shelf: Shelf) -> str | None:
    """The parcel's state."""
    found = shelf.get(ID)
    return found.state if found else None


def test_what_is_put_in_comes_out(shelf: Shelf) -> None:
    """A parcel is read as it was written."""
    assert shelf.get(ID) == parcel_of()
    assert shelf.get("r-no") is None


MOVES: dict[str, Callable[[Shelf, int], bool]] = {
    "keep": lambda shelf, now: shelf.keep(KEPT, now),
    "collect": lambda shelf, now: shelf.collect(ID, "vera", now),
    "restore": lambda shelf, now: shelf.restore(ID, "vera", now),
    "lose": lambda shelf, now: shelf.end(ID, "lost", now),
    "continue": lambda shelf, now: shelf.end(ID, "continued", now),
    "expire": lambda shelf, now: shelf.expire(ID, now),
}


@pytest.mark.parametrize(
    ("before", "move", "now", "after"),
    [
        ([], "keep", NOW, "kept"),
        ([], "keep", END, None),
        ([], "collect", NOW, None),
        ([], "lose", NOW, "lost"),
        ([], "lose", END, "lost"),
        ([], "continue", NOW, "continued"),
        ([], "expire", END, "expired"),
        ([], "expire", END - 1, None),
        (["keep"], "keep", NOW, None),
        (["keep"], "collect", NOW, "collected"),
        (["keep"], "collect", END, None),
        (["keep"], "lose", NOW, None),
        (["keep"], "expire", END, "expired"),
        (["keep"], "restore", NOW, None),
        (["keep", "collect"], "collect", NOW, None),
        (["keep", "collect"], "restore", NOW, "kept"),
        (["keep", "collect"], "expire", END, None),
        (["keep", "collect", "restore"], "collect", NOW, "collected"),
        (["lose"], "keep", NOW, None),
        (["continue"], "keep", NOW, None),
    ],
)
def test_each_move_starts_from_its_state(
    shelf: Shelf, before: list[str], move: str, now: int, after: str | None
) -> None:
    """A move happens from the state that it is for and in its time, or leaves everything as it was."""
    for step in before:
        assert MOVES[step](shelf, NOW)
    was = shelf.get(ID)
    assert MOVES[move](shelf, now) is (after is not None)
    assert state(shelf) == after if after else shelf.get(ID) == was


def test_what_is_over_has_no_body(shelf: Shelf) -> None:
    """Expiry wipes the body; so does handing it out, but not before it was collected."""
    assert shelf.keep(KEPT, NOW)
    shelf.wipe(ID)
    assert shelf.get(ID) is not None
    found = shelf.get(ID)
    assert found is not None
    assert found.body == b"sealed"
    assert shelf.collect(ID, "vera", NOW)
    shelf.wipe(ID)
    found = shelf.get(ID)
    assert found is not None
    assert (found.body, found.size, found.collector) == (None, 0, "vera")
    assert shelf.expect(parcel_of("r-2"))
    assert shelf.keep(dataclasses.replace(KEPT, id="r-2"), NOW)
    assert shelf.expire("r-2", END)
    found = shelf.get("r-2")
    assert found is not None
    assert found.body is None


def test_tidying_forgets_what_is_long_over(shelf: Shelf) -> None:
    """A body that a crash left behind goes after a minute, a row thirty days after its expiry."""
    assert shelf.keep(KEPT, NOW)
    assert shelf.collect(ID, "vera", NOW)
    for later, body in ((60, b"sealed"), (61, None)):
        shelf.tidy(NOW + later)
        found = shelf.get(ID)
        assert found is not None
        assert found.body == body
    shelf.tidy(END + REMEMBERED)
    assert state(shelf) == "collected"
    shelf.tidy(END + REMEMBERED + 1)
    assert state(shelf) is None


def test_what_waits_is_bounded(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sender's parcels are limited in number, all bodies in size; what is over makes room."""
    monkeypatch.setattr(limits, "MOST_WAITING", 2)
    assert shelf.expect(parcel_of("r-2"))
    assert not shelf.expect(parcel_of("r-3"))
    assert shelf.expect(parcel_of("r-4", account="someone else"))
    assert shelf.end("r-2", "lost", NOW)
    assert shelf.expect(parcel_of("r-3"))
    monkeypatch.setattr(limits, "MOST_BYTES", 6)
    assert shelf.expect(parcel_of("r-5", account="a third"))
    assert shelf.keep(KEPT, NOW)
    assert not shelf.expect(parcel_of("r-6", account="a fourth"))
    assert shelf.expire(ID, END)
    assert shelf.expect(parcel_of("r-6", account="a fourth"))


def test_nobody_takes_all_the_room(shelf: Shelf, monkeypatch: pytest.MonkeyPatch) -> None:
    """One sender's bodies are limited in size; what is expected counts as large as it may become, until it has come."""
    monkeypatch.setattr(limits, "MOST_BYTES_EACH", 6)
    assert shelf.expect(parcel_of("r-2", size=6))
    assert not shelf.expect(parcel_of("r-3", size=6))
    assert shelf.expect(parcel_of("r-4", size=6, account="someone else"))
    assert shelf.keep(dataclasses.replace(KEPT, id="r-2", size=5), NOW)
    assert shelf.expect(parcel_of("r-3", size=6))
    assert not shelf.expect(parcel_of("r-5", size=1))
    assert shelf.end("r-3", "lost", NOW)
    lost = shelf.get("r-3")
    assert lost is not None
    assert lost.size == 0
    assert shelf.expect(parcel_of("r-5", size=1))
    monkeypatch.setattr(limits, "MOST_BYTES", 11)
    assert not shelf.expect(parcel_of("r-6", account="a third"))
    assert shelf.end("r-4", "continued", NOW)
    assert shelf.expect(parcel_of("r-6", account="a third"))


def test_lists_are_of_whom_they_concern(shelf: Shelf) -> None:
    """A role sees what waits for it, a sender all of theirs, nobody anything else, and bodies are not in lists."""
    assert shelf.keep(KEPT, NOW)
    assert shelf.expect(parcel_of("r-2", account="bob", role="steward", created=NOW + 1))
    assert shelf.end("r-2", "lost", NOW)
    alice = parcel_of().account
    listed = {who: [one.id for one in shelf.concerning(who, roles, 9)] for who, roles in (
        (alice, []), ("bob", ["viewer"]), ("vera", ["viewer"]), ("stu", ["steward"]), ("x", []),
    )}  # fmt: skip
    assert listed == {alice: [ID], "bob": ["r-2", ID], "vera": [ID], "stu": [], "x": []}
    assert all(one.body is None for one in shelf.concerning(alice, ["viewer"], 9))
    assert len(shelf.concerning("bob", ["viewer"], 1)) == 2


def test_what_is_overdue_or_left_behind_is_found(shelf: Shelf) -> None:
    """Expiry is looked for by time, results that cannot come by the gateway whose calls they were."""
    assert shelf.overdue(END - 1) == []
    assert [one.id for one in shelf.overdue(END)] == [ID]
    assert [one.id for one in shelf.expected_by("gw-test")] == [ID]
    assert shelf.expected_by("gw-2") == []
    assert shelf.keep(KEPT, NOW)
    assert shelf.expected_by("gw-test") == []
