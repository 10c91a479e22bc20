"""The policy command."""

from pathlib import Path

import pytest
from mcp_sod.cli.policy import app
from typer.testing import CliRunner

from tests.unit.making import policy_of
from tests.world.issuer import Issuer
from tests.world.policies import DEFAULT, identity

RUN = CliRunner()


def test_a_right_policy(tmp_path: Path) -> None:
    """Exit status 0, the folder and the digest; a policy that lets nobody in says which file to fill in."""
    done = RUN.invoke(app, ["check", str(DEFAULT)])
    assert done.exit_code == 0
    assert "right:" in done.stdout
    assert "identity.yaml" in done.stdout
    policy = policy_of(tmp_path, **identity(Issuer(tmp_path / "issuer")))
    done = RUN.invoke(app, ["check", str(policy.folder)])
    assert (done.exit_code, policy.digest[:16] in done.stdout, "every call is refused" in done.stdout) == (
        0,
        True,
        False,
    )


@pytest.mark.parametrize("text", ["rules: 1", "version: [/red]\n[x", "roles: {a: !!x y}", "\x00"])
def test_a_wrong_policy(text: str, tmp_path: Path) -> None:
    """Exit status 1 and the file's name, without a traceback, whatever stands in it."""
    (tmp_path / "wrong.yaml").write_text(text)
    done = RUN.invoke(app, ["check", str(tmp_path)])
    assert done.exit_code == 1
    assert done.stdout.startswith("wrong: wrong.yaml")
    assert "Traceback" not in done.output


def test_a_folder_that_is_not_there() -> None:
    """Exit status 1 and the folder's name."""
    done = RUN.invoke(app, ["check", "/nowhere"])
    assert (done.exit_code, "/nowhere cannot be read" in done.stdout) == (1, True)
