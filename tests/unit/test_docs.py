"""The documents say only what is so: commands, options, policy keys and tests that they name are there."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from mcp_sod.policy import load

from tests.world.process import ROOT

README = (ROOT / "README.md").read_text()
SECURITY = (ROOT / "SECURITY.md").read_text()


def test_every_named_test_is_there() -> None:
    """A threat in SECURITY.md names the test that holds it, and that test exists."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", SECURITY)
    assert len(named) > 20
    for file, test in named:
        source = (ROOT / file).read_text()
        assert not test or re.search(rf"def {test}\(", source), f"{file}::{test}"


def test_every_threat_has_a_test_or_says_that_it_has_none() -> None:
    """No row of the table of threats stands without a test; what is not held is listed apart."""
    rows = [row for row in SECURITY.splitlines() if row.startswith("| ") and not row.startswith(("| Threat", "|--"))]
    assert rows
    for row in rows:
        assert "`tests/" in row, row


@pytest.mark.parametrize("snippet", re.findall(r"```yaml\n(.*?)```", README, re.DOTALL))
def test_every_policy_example_is_a_policy(snippet: str, tmp_path: Path) -> None:
    """What the README shows of a policy can be put in place of the same part of the default policy."""
    shown = yaml.safe_load(re.sub(r"(?m)^   ", "", snippet) if snippet.startswith("   ") else snippet)
    files = {file.name: yaml.safe_load(file.read_text()) for file in (ROOT / "policies").glob("*.yaml")}
    for content in files.values():
        for key in content.keys() & shown.keys():
            content[key] = shown[key]
    files["gateway.yaml"] |= {key: shown[key] for key in shown if not any(key in content for content in files.values())}
    folder = tmp_path / "policies"
    folder.mkdir()
    for name, content in files.items():
        (folder / name).write_text(yaml.safe_dump(content))
    assert load(folder).document.model_dump(exclude_unset=True, by_alias=True).keys() >= shown.keys()


@pytest.mark.parametrize("command", sorted(set(re.findall(r"\./(scripts/[\w.]+(?: [a-z]+)?)", README))))
def test_every_command_is_there(command: str) -> None:
    """A command that the README shows exists, with its subcommand."""
    script, _, subcommand = command.partition(" ")
    file = ROOT / script
    assert file.is_file()
    if file.suffix == ".py" and subcommand:
        shown = subprocess.run(
            [sys.executable, file, subcommand, "--help"], capture_output=True, text=True, check=False
        )
        assert shown.returncode == 0, shown.stderr
        for option in re.findall(rf"{re.escape(command)}[^\n]*?(--[a-z-]+)", README):
            assert option in shown.stdout
