"""Verification: an untouched log passes, and each attack is found and named."""

import shutil
from pathlib import Path

import pytest
from mcp_sod.audit.folder import FolderStore
from mcp_sod.audit.verify import verify
from mcp_sod.errors import AuditError

from tests.unit.audit.tampering import ATTACKS, Attack, Victim
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
    assert all(problem.sentence.startswith("gw-1: ") for problem in problems)


def test_one_altered_record_is_the_only_one_blamed(original: tuple[Path, str], victim: Victim) -> None:
    """With one altered record, its neighbours and all checkpoints still hold: there is exactly one problem."""
    ATTACKS[1][1](victim)
    (problem,) = verify(FolderStore(victim.store), original[1]).problems
    assert "record 5 " in problem.sentence


def test_the_tail_may_wait_for_its_checkpoint(original: tuple[Path, str], victim: Victim) -> None:
    """A last batch whose checkpoint is still on its way is a note, not a problem."""
    victim.checkpoint(12).unlink()
    report = verify(FolderStore(victim.store), original[1])
    assert report.ok
    assert report.notes == ("gw-1: records 8 to 11: chained, but no checkpoint covers them yet.",)


def test_strangers_are_noted(original: tuple[Path, str], victim: Victim) -> None:
    """An object that is none of ours does no harm, and is told."""
    (victim.store / "records/v1/readme.txt").touch()
    report = verify(FolderStore(victim.store), original[1])
    assert report.ok
    assert report.notes == ("records/v1/readme.txt: not an object of any gateway.",)


def test_a_gateway_without_its_key_does_not_pass(original: tuple[Path, str], victim: Victim) -> None:
    """Checkpoints by a key that was not given are a problem: nothing vouches for those records."""
    report = verify(FolderStore(victim.store), original[1].splitlines()[0])
    assert {(problem.kind, problem.sentence[:4]) for problem in report.problems} == {
        ("signature", "gw-2"),
        ("unsigned", "gw-2"),
    }


def test_no_key_is_an_error(tmp_path: Path) -> None:
    """Verification without a key would prove nothing, so it is refused; an empty store with a key has no problem."""
    for text in ("", "\n", "x"):
        with pytest.raises(AuditError, match="key"):
            verify(FolderStore(tmp_path), text)


def test_a_mass_of_problems_is_cut(original: tuple[Path, str], victim: Victim) -> None:
    """A store that is wrong in thousands of ways makes a report that is still read."""
    victim.replace(1, [victim.lines(1)[0]] * 3000)
    report = verify(FolderStore(victim.store), original[1])
    assert len(report.problems) == 1000
    assert "More problems are not listed." in report.notes
