"""The policy command."""

from pathlib import Path

import pytest
from mcp_sod.cli.policy import app
from typer.testing import CliRunner

from tests.unit.making import policy_of
from tests.world.issuer import Issuer
from tests.world.policies import DEFAULT, identity
from tests.world.token_endpoint import exchange

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


def test_what_can_hardly_be_meant_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An upstream that no role may call, one without a path, a secret that is not there: allowed, but said."""
    monkeypatch.delenv("SOD_NOT_THERE", raising=False)
    upstreams = {
        "tools": {"url": "http://127.0.0.1:9000/mcp", "speaks": "mcp"},
        "bare": {
            "url": "http://127.0.0.1:9001",
            "speaks": "openai",
            "credential": {"bearer": {"env": "SOD_NOT_THERE"}},
        },
        "other": {"url": "http://127.0.0.1:9002/mcp", "speaks": "mcp", "credential": exchange("https://l/")},
    }
    monkeypatch.delenv("SOD_TEST_EXCHANGE", raising=False)
    duties = {"roles": {"r": {"groups": ["g"]}}, "permissions": {"r": [{"upstream": "tools", "methods": ["*"]}]}}
    policy = policy_of(tmp_path, upstreams=upstreams, **duties)
    said = RUN.invoke(app, ["check", str(policy.folder)])
    assert said.exit_code == 0
    assert "upstreams.tools" not in said.stdout
    for part in ("bare: no role may call it", "bare: its url has no path", "SOD_NOT_THERE", "SOD_TEST_EXCHANGE"):
        assert part in said.stdout


def test_a_missing_key_file_is_wrong(tmp_path: Path) -> None:
    """What the gateway would not start with is not right."""
    issuer = Issuer(tmp_path / "issuer")
    policy = policy_of(tmp_path, **identity(issuer))
    assert RUN.invoke(app, ["check", str(policy.folder)]).exit_code == 0
    issuer.jwks_file.unlink()
    said = RUN.invoke(app, ["check", str(policy.folder)])
    assert (said.exit_code, "is not there" in said.stdout) == (1, True)
