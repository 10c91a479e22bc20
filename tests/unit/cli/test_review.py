"""The review command of `policy`."""

import json
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.cli.policy import app
from typer.testing import CliRunner, Result

from tests.unit.making import policy_of
from tests.world.policies import DEFAULT

RUN = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"})
GOOD = "group,member,person\nmcp-users,ann,Ann\nmcp-approvers,bob,Bob\n"
BROAD = GOOD + "mcp-approvers,ann-admin,ANN\n"


def run(folder: Path, text: str, *words: str, policy: Path = DEFAULT) -> Result:
    """The command on a file with this text."""
    file = folder / "members.csv"
    file.write_text(text)
    return RUN.invoke(app, ["review", "--members", str(file), str(policy), *words])


def test_nobody(tmp_path: Path) -> None:
    """Exit status 0, and how many were looked at."""
    said = run(tmp_path, GOOD)
    assert (said.exit_code, said.stdout) == (0, "2 people in 2 groups looked at: nobody is over-broad.\n")


def test_somebody(tmp_path: Path) -> None:
    """Exit status 1: the person, the accounts, the roles with their groups, the rule."""
    said = run(tmp_path, BROAD)
    assert said.exit_code == 1
    assert said.stdout == (
        "over-broad: Ann (ann, ann-admin)\n"
        "  prompt-sender from mcp-users by ann; approver from mcp-approvers by ann-admin: "
        "the rule separation.static [prompt-sender, approver] allows 1.\n"
        "2 people in 2 groups looked at: 1 over-broad.\n"
    )


def test_json(tmp_path: Path) -> None:
    """The same for scripts."""
    said = run(tmp_path, BROAD, "--json")
    held = [
        {"role": "prompt-sender", "sources": [{"group": "mcp-users", "accounts": ["ann"]}]},
        {"role": "approver", "sources": [{"group": "mcp-approvers", "accounts": ["ann-admin"]}]},
    ]
    rule = {"roles": ["prompt-sender", "approver"], "most": 1}
    person = {"person": "Ann", "accounts": ["ann", "ann-admin"], "excesses": [{"rule": rule, "held": held}]}
    expected: dict[str, Any] = {"people": 2, "groups": 2, "over_broad": [person], "notes": []}
    assert (said.exit_code, json.loads(said.stdout)) == (1, expected)
    said = run(tmp_path, GOOD, "--json")
    assert (said.exit_code, json.loads(said.stdout)) == (0, {**expected, "over_broad": []})


def test_a_note(tmp_path: Path) -> None:
    """What makes the verdict worth less is said with it."""
    said = run(tmp_path, "group,member\nMCP-Users,ann\n")
    assert said.exit_code == 0
    assert "but: the group MCP-Users is written mcp-users in the policy" in said.stdout


@pytest.mark.parametrize(
    ("text", "why"), [("group,member\n,ann\n", "members.csv: line 2 names no group"), ("[1", "members.csv: line 1")]
)
def test_a_file_that_cannot_be_understood(tmp_path: Path, text: str, why: str) -> None:
    """Exit status 2, the line and the remedy, and no verdict."""
    said = run(tmp_path, text)
    assert (said.exit_code, said.stdout) == (2, "")
    assert why in said.stderr


def test_what_is_not_there(tmp_path: Path) -> None:
    """A file, or a policy: exit status 2 and its name."""
    said = RUN.invoke(app, ["review", "--members", str(tmp_path / "none.csv"), str(DEFAULT)])
    assert (said.exit_code, "none.csv cannot be read" in said.stderr) == (2, True)
    said = run(tmp_path, GOOD, policy=tmp_path / "nowhere")
    assert (said.exit_code, "nowhere cannot be read" in said.stderr) == (2, True)
    said = RUN.invoke(app, ["review", "--members", str(tmp_path), str(DEFAULT)])
    assert said.exit_code == 2


def test_names_do_not_steer_the_terminal(tmp_path: Path) -> None:
    """A display name is what someone chose: its escapes are not obeyed, and rich's marks are text."""
    said = run(tmp_path, 'group,member\nmcp-users,"[red]\x1b[2J"\nmcp-approvers,"[red]\x1b[2J"\n')
    assert said.exit_code == 1
    assert "\x1b" not in said.stdout
    assert "over-broad: [red]\N{REPLACEMENT CHARACTER}[2J" in said.stdout
    said = run(tmp_path, '{"\x1b]0;x": ["a"], "\x1b]0;x": ["a"]}')
    assert said.exit_code == 2
    assert "\x1b" not in said.output


def test_a_policy_whose_key_files_are_elsewhere_will_do(tmp_path: Path) -> None:
    """A reviewer's machine is not the gateway's."""
    issuer = {"issuer": "https://i.example", "audience": ["a"], "keys": {"file": "nowhere.json"}, "machine": "none"}
    policy = policy_of(tmp_path, identity=[issuer])
    assert run(tmp_path, GOOD, policy=policy.folder).exit_code == 0
