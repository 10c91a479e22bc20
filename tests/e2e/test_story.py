"""The demo, as a stranger runs it: it tells its whole story, notices when one line is not so, and clears up."""

import os
import subprocess
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from tests.conftest import SKIP_NOTHING
from tests.story.accounts import one_human_two_accounts
from tests.story.play import play
from tests.story.possession import stolen_token
from tests.story.setting import PARTNER, believed, open_setting
from tests.story.telling import StoryError, Teller
from tests.world import radosgw as ceph
from tests.world.issuer import Issuer
from tests.world.process import ROOT, Process, accepts
from tests.world.trail import Trail

DEMO = ROOT / "scripts" / "demo"
TRIED = {
    "caller $BANK get_customer": "[masked:field]",
    "$PAULA scripts/approve.py list": "No held calls",
    "audit.py show": "forwarded",
    "audit.py verify --store": "All is as it was written",
}


@pytest.fixture(params=["folder", pytest.param("radosgw", marks=pytest.mark.radosgw)])
def store(request: pytest.FixtureRequest) -> str:
    """Each store that the records can go to."""
    if request.param == "radosgw" and not ceph.available():
        (pytest.fail if SKIP_NOTHING else pytest.skip)("radosgw is not installed")
    return str(request.param)


@pytest.fixture
def temporary(tmp_path: Path) -> Path:
    """Where the demo puts its temporary folder."""
    folder = tmp_path / "tmp"
    folder.mkdir()
    return folder


@pytest.fixture
def staying(temporary: Path, tmp_path: Path) -> Iterator[Process]:
    """The demo with --stay, once its story is over."""
    command: list[str | Path] = [DEMO, "--stay", "--store", "folder"]
    env = {"TMPDIR": str(temporary)}
    with Process(command, tmp_path / "demo.log", says="Ctrl-C ends everything", env=env, patience=90) as demo:
        yield demo


def test_every_line_of_the_story_is_so(store: str, temporary: Path) -> None:
    """Exit status 0 within a minute, no step without its tick, the store named with its guarantee, nothing left."""
    began = time.monotonic()
    env = {**os.environ, "TMPDIR": str(temporary), "HTTP_PROXY": "http://127.0.0.1:9", "AWS_PROFILE": "nobody"}
    done = subprocess.run([DEMO, "--store", store], env=env, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - began < 60
    assert "All is well" in done.stdout
    assert "✗" not in done.stdout
    assert ("write-once: S3 Object Lock" in done.stdout) == (store == "radosgw")
    assert ("tamper-evident, not write-once" in done.stdout) == (store == "folder")
    assert "\x1b" not in done.stdout, "plain where stdout is no terminal"
    assert list(temporary.iterdir()) == []


def test_a_line_that_is_not_so_is_told(tmp_path: Path) -> None:
    """Without the rule that holds secrets the story fails, and says what it expected and what it saw."""
    said = StringIO()
    tell = Teller(Console(file=said, width=200))
    assert not play(tmp_path, "folder", tell, rules={"rules": []})
    assert "failed: it is held" in said.getvalue()
    assert "expected: (True, 'held')" in said.getvalue()
    assert "seen: (False, '')" in said.getvalue()
    assert "All is well" not in said.getvalue()


WRONG: dict[str, Any] = {  # what the policy says of its identity providers, the chapter that fails by it, and how
    "people are told by e-mail alone": (
        {"claims": {"person": ["email"]}}, one_human_two_accounts, "failed: the list says she may not",
    ),
    "bound tokens are not taken": (
        {"proof": "bearer"}, stolen_token, "bound to its sender in a way that the policy does not take",
    ),
}  # fmt: skip


def believing(folder: Path, **changed: Any) -> dict[str, Any]:
    """The identity section of a story that will be told in this folder, changed."""
    section = believed(Issuer(folder / "issuer"), Issuer(folder / "partner", url=PARTNER))
    return {"identity": [issuer | changed for issuer in section["identity"]]}


def test_a_client_that_proves_gives_the_nonce_it_is_asked_for(tmp_path: Path) -> None:
    """Where every proof needs a nonce of the gateway's, the chapter of the stolen token is told all the same."""
    said = StringIO()
    section = believing(tmp_path, dpop={"nonce": "required"})
    with open_setting(tmp_path, "folder", identity=section) as setting:
        stolen_token(setting, Teller(Console(file=said, width=200)))
        records = Trail(setting.gateway.state, tmp_path / "audit").read()
    assert "The proof was used before" in said.getvalue()
    assert [record.get("reason") for record in records].count("The proof needs a nonce of this gateway.") >= 1


@pytest.mark.parametrize("wrong", WRONG)
def test_a_chapter_that_is_not_so_is_told(tmp_path: Path, wrong: str) -> None:
    """Where two accounts are two people, or a proof is worth nothing, these chapters fail and say where."""
    said = StringIO()
    tell = Teller(Console(file=said, width=200))
    changed, chapter, complaint = WRONG[wrong]
    section = believing(tmp_path, **changed)
    with open_setting(tmp_path, "folder", identity=section) as setting, pytest.raises(StoryError):
        chapter(setting, tell)
    assert complaint in said.getvalue()


def test_what_staying_prints_works(staying: Process, temporary: Path) -> None:
    """Tokens and commands can be pasted as they are; SIGTERM ends everything and removes it, with exit status 0."""
    lines = staying.log.partition("Paste this")[2].splitlines()
    exports = [line for line in lines if line.startswith("export ")]
    for command, answer in TRIED.items():
        line = next(line for line in lines if command in line)
        assert answer in shell([*exports, line])
    ports = [int(line.rpartition(":")[2].partition("/")[0]) for line in exports[:3]]
    assert all(accepts(port) for port in ports)
    assert staying.stop() == 0
    assert not any(accepts(port) for port in ports)
    assert list(temporary.iterdir()) == []


def shell(lines: list[str]) -> str:
    """What these lines say when they are pasted into a shell in the checkout."""
    done = subprocess.run(
        ["/bin/bash", "-eu"], input="\n".join(lines), cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    return done.stdout + done.stderr


def test_help_has_an_example() -> None:
    """--help says how it is used."""
    done = subprocess.run([DEMO, "--help"], capture_output=True, text=True, timeout=60, check=True)
    assert "Example: scripts/demo" in done.stdout
    assert "--stay" in done.stdout
