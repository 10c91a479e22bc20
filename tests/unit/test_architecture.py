"""What the house looks like, held where import-linter cannot say it."""

import ast
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "addons" / "mcp_sod"
MODULES = sorted(PACKAGE.rglob("*.py"))
TOUCH_MITMPROXY = {"addon.py", "gate.py", "chain.py"}
MOST_LINES = 300


def imported(module: Path) -> Iterator[str]:
    """The top-level names of everything a module imports, inside functions and TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(module.read_text())):
        match node:
            case ast.Import(names=names):
                yield from (name.name.partition(".")[0] for name in names)
            case ast.ImportFrom(module=str(name), level=0):
                yield name.partition(".")[0]


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_logic_does_not_touch_the_flow(module: Path) -> None:
    """Only addon.py, gate.py and chain.py import mitmproxy."""
    assert module.name in TOUCH_MITMPROXY or "mitmproxy" not in imported(module)


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_module_does_one_thing(module: Path) -> None:
    """No module has grown past the length at which there is a second thing in it."""
    assert len(module.read_text().splitlines()) < MOST_LINES


def test_there_are_four_folders() -> None:
    """What git tracks lies in addons, policies, tests and scripts, dot-folders aside."""
    if not shutil.which("git") or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)  # noqa: S607
    folders = {line.split("/")[0] for line in tracked.stdout.splitlines() if "/" in line}
    assert {one for one in folders if not one.startswith(".")} <= {"addons", "policies", "tests", "scripts"}
