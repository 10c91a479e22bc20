"""Verification: an untouched log passes, and each attack is found and named."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from mcp_sod.audit.folder import FolderStore
from mcp_sod.audit.layout import RECORDS
from mcp_sod.audit.merkle import Tree, leaf_hash
from mcp_sod.audit.report import End
from mcp_sod.audit.store import Version
from mcp_sod.audit.verify import verify
from mcp_sod.errors import AuditError

from tests.unit.audit.tampering import ATTACKS, Attack, Victim, changed
from tests.world.records import make_log


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Two gateways' logs in one folder, and their public keys."""
    base = tmp_path_factory.mktemp("original")
    store = FolderStore(base / "store")
    first = make_log(base / "gw-1", store, [4, 4, 4], "gw-1")
    second = make_log(base / "gw-2", store, [4], "gw-2")
    return base, first + second


@pytest.fixture
def victim(original: tuple[Path, str], tmp_path: Path) -> Victim:
    """A copy to attack."""
    shutil.copytree(original[0], tmp_path / "copy")
    return Victim(tmp_path / "copy" / "store", tmp_path / "copy" / "gw-1" / "keys" / "audit.key")


def test_the_untouched_log_passes(original: tuple[Path, str], victim: Victim) -> None:
    """The control: a copy that nobody attacked has no problem and no note, and is counted whole."""
    heard: list[tuple[int, int]] = []
    report = verify(FolderStore(victim.store), original[1], lambda done, total: heard.append((done, total)))
    assert report.ok
    assert report.notes == ()
    assert (report.records, report.checkpoints) == (16, 4)
    assert (report.first_time, report.last_time) == ("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:11.000000Z")
    assert report.guarantee == "tamper-evident, not write-once"
    assert heard == [(1, 4), (2, 4), (3, 4), (4, 4)]


@pytest.mark.parametrize(
    ("attack", "kind", "named"), [row[1:] for row in ATTACKS], ids=[row[0].replace(" ", "-") for row in ATTACKS]
)
def test_an_attack_is_found_and_named(
    original: tuple[Path, str], victim: Victim, attack: Attack, kind: str, named: str
) -> None:
    """Each attack is told with its kind, the object and the records; the other gateway is not blamed."""
    attack(victim)
    problems = verify(FolderStore(victim.store), original[1]).problems
    found = [problem for problem in problems if problem.kind == kind and named in f"{problem.where} {problem.sentence}"]
    assert found, problems
    assert all(problem.sentence.startswith("gw-1: ") or "src=gw-1" in problem.where for problem in problems)


def test_one_altered_record_is_the_only_one_blamed(original: tuple[Path, str], victim: Victim) -> None:
    """With one altered record, its neighbours and all checkpoints still hold: there is exactly one problem."""
    ATTACKS[1][1](victim)
    (problem,) = verify(FolderStore(victim.store), original[1]).problems
    assert "record 5 " in problem.sentence


def test_while_the_gateway_runs_one_batch_may_wait_for_its_checkpoint(
    original: tuple[Path, str], victim: Victim
) -> None:
    """Of a running gateway the newest batch may lack its checkpoint, which is noted; two, or all, may not."""
    victim.checkpoint(12).unlink()
    report = verify(FolderStore(victim.store), original[1], running=True)
    assert report.ok
    assert report.notes == ("gw-1: records 8 to 11: chained, but no checkpoint covers them yet.",)
    assert [end.size for end in report.ends] == [8, 4]
    victim.checkpoint(8).unlink()
    problems = verify(FolderStore(victim.store), original[1], running=True).problems
    assert ("unsigned", "gw-1: records 4 to 11: no checkpoint covers them.") in [(x.kind, x.sentence) for x in problems]
    victim.checkpoint(4).unlink()
    assert "unsigned" in {x.kind for x in verify(FolderStore(victim.store), original[1], running=True).problems}


def test_a_batch_that_one_checkpoint_covers_in_part_is_not_whole(original: tuple[Path, str], victim: Victim) -> None:
    """A batch that grew past its checkpoint is not one that waits for it: it is told even while the gateway runs."""
    last = victim.lines(2)[-1]
    more = changed(last, seq=12, prev=leaf_hash(last).hex())
    path = victim.batch(2)
    victim.replace(2, [*victim.lines(2), more])
    path = victim.batch(2)
    path.rename(path.with_name(path.name.replace(f"-{11:012}-", f"-{12:012}-")))
    problems = verify(FolderStore(victim.store), original[1], running=True).problems
    assert ("unsigned", "gw-1: record 12: no checkpoint covers them.") in [(x.kind, x.sentence) for x in problems]


class Growing(FolderStore):
    """A store into which a gateway puts one more batch, and its checkpoint, once the batches have been listed."""

    def __init__(self, root: Path, later: Path) -> None:
        super().__init__(root)
        self.root, self.later = root, later

    def versions(self, prefix: str) -> Iterator[Version]:
        """Lists, and grows after the batches."""
        yield from list(super().versions(prefix))
        if prefix == RECORDS:
            shutil.copytree(self.later, self.root, dirs_exist_ok=True)


def test_a_batch_that_comes_while_batches_are_listed_is_none_missing(
    original: tuple[Path, str], victim: Victim, tmp_path: Path
) -> None:
    """Verifying a running gateway, a checkpoint that came after the listing is left out with its batch."""
    shutil.copytree(victim.store, tmp_path / "later")
    victim.batch(2).unlink()
    victim.checkpoint(12).unlink()
    report = verify(Growing(victim.store, tmp_path / "later"), original[1], running=True)
    assert (report.problems, report.records) == ((), 12)
    victim.batch(2).unlink()  # one that was there before is still told
    assert "truncated" in {x.kind for x in verify(FolderStore(victim.store), original[1], running=True).problems}


def test_a_log_cut_behind_a_checkpoint_is_told_by_its_size(original: tuple[Path, str], victim: Victim) -> None:
    """A tail that goes with its checkpoints leaves a log that is whole in itself; who kept its end is told."""
    ends = verify(FolderStore(victim.store), original[1]).ends
    assert [(end.gateway, end.size) for end in ends] == [("gw-1", 12), ("gw-2", 4)]
    assert verify(FolderStore(victim.store), original[1], at_least=ends).ok
    victim.batch(2).unlink()
    victim.checkpoint(12).unlink()
    assert verify(FolderStore(victim.store), original[1]).ok
    assert verify(FolderStore(victim.store), original[1], at_least=[End("", 4, ""), End("gw-1", 8, "")]).ok
    for known in (ends, [End("gw-1", 12, "")]):
        (problem,) = verify(FolderStore(victim.store), original[1], at_least=known).problems
        assert (problem.kind, problem.sentence) == (
            "truncated", "gw-1: checkpoints vouch for 8 records, but there were 12 at least."
        )  # fmt: skip
    both = verify(FolderStore(victim.store), original[1], at_least=[End("", 9, "")]).problems
    assert [problem.sentence[:4] for problem in both] == ["gw-1", "gw-2"]
    (gone,) = verify(FolderStore(victim.store), original[1], at_least=[End("gw-3", 1, "")]).problems
    assert (gone.kind, gone.sentence[:4]) == ("missing", "gw-3")


def test_a_tail_that_no_checkpoint_covers_does_not_count(original: tuple[Path, str], victim: Victim) -> None:
    """Forged records after a cut do not make up for the true ones, even while the gateway runs."""
    victim.checkpoint(12).unlink()
    report = verify(FolderStore(victim.store), original[1], running=True, at_least=[End("gw-1", 12, "")])
    assert [problem.kind for problem in report.problems] == ["truncated"]


def test_another_history_is_told_by_its_root(original: tuple[Path, str], victim: Victim) -> None:
    """A history that the stolen key signed anew passes, unless its root was kept."""
    ends = verify(FolderStore(victim.store), original[1]).ends
    last = victim.lines(2)
    victim.replace(2, [*last[:3], changed(last[3], text="nothing happened")])
    tree = Tree().extend(leaf_hash(line) for number in range(3) for line in victim.lines(number))
    victim.sign(12, tree.root())
    assert verify(FolderStore(victim.store), original[1]).ok
    (problem,) = verify(FolderStore(victim.store), original[1], at_least=ends).problems
    assert (problem.kind, problem.sentence) == (
        "fork", "gw-1: the first 12 records are not those whose root was given."
    )  # fmt: skip


def test_an_empty_store_does_not_pass(original: tuple[Path, str], tmp_path: Path) -> None:
    """Whoever gives a key expects a log: where there is nothing, or no store at all, each gateway is told missing."""
    for running in (False, True):
        problems = verify(FolderStore(tmp_path / "none"), original[1], running=running).problems
        assert [(problem.kind, problem.sentence[:4]) for problem in problems] == [
            ("missing", "gw-1"),
            ("missing", "gw-2"),
        ]


def test_strangers_are_told(original: tuple[Path, str], victim: Victim) -> None:
    """An object that is none of ours is a problem: nobody but gateways puts anything there."""
    (victim.store / "records/v1/readme.txt").touch()
    (problem,) = verify(FolderStore(victim.store), original[1]).problems
    assert (problem.kind, problem.where) == ("misplaced", "records/v1/readme.txt")


def test_leftovers_of_a_put_are_noted(original: tuple[Path, str], victim: Victim) -> None:
    """A checkpoint's put that a crash interrupted is noted; a batch's is a problem unless the gateway runs."""
    path = victim.checkpoint(12)
    path.with_name(f".{path.name}.tmp").touch()
    report = verify(FolderStore(victim.store), original[1])
    assert (report.ok, len(report.notes)) == (True, 1)
    path = victim.batch(2)
    path.with_name(f".{path.name}.tmp").touch()
    assert [problem.kind for problem in verify(FolderStore(victim.store), original[1]).problems] == ["misplaced"]
    report = verify(FolderStore(victim.store), original[1], running=True)
    assert (report.ok, len(report.notes)) == (True, 2)


def test_a_gateway_without_its_key_does_not_pass(original: tuple[Path, str], victim: Victim) -> None:
    """Checkpoints by a key that was not given are a problem: nothing vouches for those records."""
    report = verify(FolderStore(victim.store), original[1].splitlines()[0])
    assert {(problem.kind, problem.sentence[:4]) for problem in report.problems} == {
        ("signature", "gw-2"),
        ("unsigned", "gw-2"),
    }


def test_no_key_is_an_error(tmp_path: Path) -> None:
    """Verification without a key would prove nothing, so it is refused."""
    for text in ("", "\n", "x"):
        with pytest.raises(AuditError, match="key"):
            verify(FolderStore(tmp_path), text)


def test_a_mass_of_problems_is_cut(original: tuple[Path, str], victim: Victim) -> None:
    """A store that is wrong in thousands of ways makes a report that is still read."""
    victim.replace(1, [victim.lines(1)[0]] * 3000)
    report = verify(FolderStore(victim.store), original[1])
    assert len(report.problems) == 1000
    assert "More problems are not listed." in report.notes
