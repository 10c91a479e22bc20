"""The policy command."""

from pathlib import Path

import pytest
from mcp_sod.cli.policy import app
from typer.testing import CliRunner

from tests.unit.identity.saml_making import POLICY as SAML
from tests.unit.identity.saml_making import rsa_key
from tests.unit.making import policy_of
from tests.world.issuer import Issuer
from tests.world.policies import DEFAULT, identity
from tests.world.saml_idp import certificate_for
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


def test_what_is_not_there_yet_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Secrets in files and of introspection, groups of no role, methods that are none, what expired: all are said."""
    monkeypatch.delenv("SOD_NOT_THERE", raising=False)
    asking = {"url": "https://i.example/in", "client": "c", "secret": {"env": "SOD_NOT_THERE"}}
    grants = [{"groups": ["ci-jobs", "userz"], "when": {"a": "b"}}]
    issuer = {"issuer": "https://i.example", "audience": ["a"], "machine": "none", "grants": grants}
    upstream = {"url": "http://127.0.0.1:9000/mcp", "speaks": "mcp", "credential": {"bearer": {"file": "tools.secret"}}}
    methods = ["tool/*", "tools/*", "resources/raed", "*"]
    (tmp_path / "idp.pem").write_bytes(certificate_for(rsa_key("idp", 2048), begins=-9, ends=-2))
    duties = {"tool": "a", "key": "arguments:/id"}, {"tool": "b", "key": "arguments:/id"}
    policy = policy_of(
        tmp_path, identity=[{**issuer, "introspection": asking}], upstreams={"tools": upstream},
        roles={"r": {"groups": ["users"]}},
        permissions={"r": [{"upstream": "tools", "methods": methods}]}, saml={"corp": dict(SAML)},
        separation={"by_object": [{"duties": list(duties), "keep": "400s"}]},
    )  # fmt: skip
    said = RUN.invoke(app, ["check", str(policy.folder)]).stdout
    told = [
        f"upstreams.tools: the file {tmp_path}/tools.secret of its credential is not set here.",
        "identity.0 (https://i.example): the environment variable SOD_NOT_THERE of its introspection is not set here.",
        "identity.0 (https://i.example): grants the group ci-jobs, which is in no role.\n",
        "identity.0 (https://i.example): grants the group userz, which is in no role. Did you mean users?",
        "permissions.r: tool/* is no method of MCP. Did you mean tools/*?",
        "permissions.r: resources/raed is no method of MCP. Did you mean resources/read?",
        "saml.corp: its certificate idp.pem expired on ",
        "separation.by_object.0: who did what is forgotten after 400 seconds (keep).",
    ]
    assert [sentence for sentence in told if f"but: {sentence}" not in said] == []
    assert said.count("but: ") == len(told)
    (tmp_path / "tools.secret").write_text("x")
    monkeypatch.setenv("SOD_NOT_THERE", "x")
    (tmp_path / "idp.pem").write_bytes(certificate_for(rsa_key("idp", 2048)))
    assert RUN.invoke(app, ["check", str(policy.folder)]).stdout.count("but: ") == len(told) - 3


def test_the_default_policy_leaves_no_doubt_but_one() -> None:
    """It has no identity provider yet; all else in it is meant."""
    assert "but: " not in RUN.invoke(app, ["check", str(DEFAULT)]).stdout
