"""The demo, as a stranger runs it: it tells its whole story, notices when one line is not so, and clears up."""

import os
import subprocess
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from tests.conftest import SKIP_NOTHING
from tests.story.play import play
from tests.story.telling import Teller
from tests.world import radosgw as ceph
from tests.world.process import ROOT, Process, accepts

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
