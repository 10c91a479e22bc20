"""Versions laid over one another, in a store of a few lines."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from mcp_sod.audit.objects import open_oldest
from mcp_sod.audit.reader import Object
from mcp_sod.audit.report import Problem
from mcp_sod.audit.store import Body, Version

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@dataclass
class Versioned:
    """Versions of one key, by id; the reasons why some are not locked."""

    bodies: dict[str, bytes]
    unlocked: str = ""
    guarantee: str = "none"
    reads: int = 0

    def versions(self, prefix: str) -> Iterator[Version]:
        """Not needed here."""
        raise NotImplementedError(prefix)

    def read(self, version: Version) -> Body:
        """Open one."""
        self.reads += 1
        return Body([self.bodies[version.id]], self.unlocked)


def told(store: Versioned, found: Object) -> list[str]:
    """The kinds of problems that opening tells."""
    problems: list[Problem] = []
    open_oldest(store, "gw-1", found, problems.append)
    return [problem.kind for problem in problems]


def version(name: str, tag: str = "") -> Version:
    """A version of the one key."""
    return Version("k", name, NOW, tag)


def test_one_locked_version_is_well() -> None:
    """The control."""
    assert told(Versioned({"1": b"one"}), Object("k", version("1"), (), 0)) == []


def test_a_repeated_put_is_no_shadow() -> None:
    """The same bytes again are well; with the same tag they are not even read."""
    store = Versioned({"1": b"one", "2": b"one"})
    assert told(store, Object("k", version("1"), (version("2"),), 0)) == []
    store.reads = 0
    assert told(store, Object("k", version("1", "t"), (version("2", "t"),), 0)) == []
    assert store.reads == 1


def test_other_bytes_are_a_shadow() -> None:
    """A later version with other bytes is told, and the oldest is what is opened."""
    store = Versioned({"1": b"one", "2": b"two"})
    found = Object("k", version("1", "t"), (version("2", "u"),), 0)
    assert told(store, found) == ["shadowed"]
    body = open_oldest(store, "gw-1", found, lambda _problem: None)
    assert body
    assert list(body.chunks) == [b"one"]


def test_a_marker_hides() -> None:
    """A delete marker is told, over a version or over nothing."""
    assert told(Versioned({"1": b"one"}), Object("k", version("1"), (), 1)) == ["hidden"]
    assert told(Versioned({}), Object("k", None, (), 1)) == ["hidden"]


def test_an_unlocked_version_is_told() -> None:
    """What the store says about the lock is passed on."""
    assert told(Versioned({"1": b"one"}, "it has no lock"), Object("k", version("1"), (), 0)) == ["unlocked"]
