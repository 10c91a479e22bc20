"""mitmproxy's own options and addons cannot undo the policy: the gateway does not start, or they are not there."""

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from tests.world.gateway import MITMDUMP, SCRIPT
from tests.world.issuer import Issuer
from tests.world.policies import default_policy
from tests.world.process import free_port
from tests.world.scene import GOOD, MASKED, Scene, passed

OTHER = "from mitmproxy import http\n\ndef request(flow: http.HTTPFlow) -> None:\n    flow.response = None\n"

# The words on the command line, and the option that the message must name.
BAD = {
    "bodies are streamed past inspection": (["--set", "stream_large_bodies=1"], "stream_large_bodies"),
    "hosts pass uninspected": (["--set", "ignore_hosts=.*"], "ignore_hosts"),
    "only some hosts are inspected": (["--set", "allow_hosts=example"], "allow_hosts"),
    "tcp passes uninspected": (["--set", "tcp_hosts=.*"], "tcp_hosts"),
    "requests go elsewhere": (["--set", "map_remote=|.*|http://127.0.0.1:9/"], "map_remote"),
    "replies come from files": (["--set", "map_local=|.*|/etc"], "map_local"),
    "bodies are rewritten": (["--set", "modify_body=/a/b"], "modify_body"),
    "headers are rewritten": (["--set", "modify_headers=/a/b"], "modify_headers"),
    "tokens stick": (["--set", "stickyauth=.*"], "stickyauth"),
    "upstreams are not verified": (["--set", "ssl_insecure=true"], "ssl_insecure"),
    "payloads go to a file": (["-w", "flows"], "save_stream_file"),
    "headers are not validated": (["--set", "validate_inbound_headers=false"], "validate_inbound_headers"),
    "requests come from a file": (["-r", "flows"], "rfile"),
    "the policy's limit is lifted": (["--set", "body_size_limit=1g"], "body_size_limit"),
    "a socks proxy": (["--mode", "socks5"], "mode"),
    "an upstream proxy": (["--mode", "upstream:http://127.0.0.1:9"], "mode"),
    "a transparent proxy": (["--mode", "transparent"], "mode"),
    "a second, open door": (["--mode", "regular", "--mode", "socks5@9"], "mode"),
}


def _start(folder: Path, words: Sequence[str | Path], config: str = "") -> subprocess.CompletedProcess[str]:
    """Starts mitmdump with a good policy and these words; it must end by itself."""
    issuer = Issuer(folder / "issuer")
    scene = folder / "policy"
    scene.mkdir()
    for name, content in default_policy(issuer, "http://127.0.0.1:9/mcp").items():
        if isinstance(content, dict) and "gateway" in content:
            content["gateway"] |= {"state": str(folder / "state"), "console": f"127.0.0.1:{free_port()}"}
        (scene / name).write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    (folder / "conf").mkdir()
    (folder / "conf" / "config.yaml").write_text(config)
    command: list[str | Path] = [
        MITMDUMP,
        "-s",
        SCRIPT,
        "--listen-host",
        "127.0.0.1",
        "--listen-port",
        str(free_port()),
    ]
    command += ["--set", f"confdir={folder / 'conf'}", "--set", f"sod_policy={scene}", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=20, check=False)


@pytest.mark.parametrize("kind", BAD)
def test_an_option_that_undoes_the_policy_stops_the_start(tmp_path: Path, kind: str) -> None:
    """Mitmdump ends with status 1 and a sentence that names the option and says what to do."""
    words, name = BAD[kind]
    (tmp_path / "flows").touch()
    ended = _start(tmp_path, words)
    printed = ended.stdout + ended.stderr
    assert ended.returncode == 1, printed
    assert f"undo the policy: {name}" in printed
    assert "Remove them" in printed


def test_a_configuration_file_counts_like_the_command_line(tmp_path: Path) -> None:
    """An option from mitmproxy's own configuration file is refused as well."""
    ended = _start(tmp_path, [], config="ignore_hosts: ['.*']\n")
    assert ended.returncode == 1
    assert "ignore_hosts" in ended.stdout + ended.stderr


def test_a_second_script_stops_the_start(tmp_path: Path) -> None:
    """Another script could change what was inspected, or open the door itself."""
    (tmp_path / "other.py").write_text(OTHER)
    ended = _start(tmp_path, ["-s", tmp_path / "other.py"])
    assert ended.returncode == 1
    assert "scripts" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "words", [[], ["--set", "termlog_verbosity=warn"], ["--set", "tcp_timeout=30"], ["--set", "http2=false"]]
)
def test_harmless_options_are_welcome(tmp_path: Path, words: list[str]) -> None:
    """The control: with options that touch nothing of the policy the gateway starts and passes a masked reply."""
    with Scene(tmp_path, options=words) as scene:
        reply = scene.call(reply=GOOD)
        assert passed(reply)
        assert MASKED in reply.text
