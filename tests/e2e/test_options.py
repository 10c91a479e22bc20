"""Options of mitmproxy that undo the policy stop the start, wherever they come from; the others do not."""

import json
from pathlib import Path

import pytest
import yaml

from tests.world.client import raw_call
from tests.world.process import ProcessFailedError
from tests.world.scene import Scene, passed

# Command line → the options that the message names.
REFUSED = {
    "--set stream_large_bodies=1": ["stream_large_bodies"],
    "--ignore-hosts .*": ["ignore_hosts"],
    "--allow-hosts .*": ["allow_hosts"],
    "--tcp-hosts .*": ["tcp_hosts"],
    "--map-remote |//127.0.0.1|//elsewhere.example": ["map_remote"],
    "--modify-body |secret|public": ["modify_body"],
    "--server-replay $folder/flows": ["server_replay"],
    "--rfile $folder/flows": ["rfile"],
    "--save-stream-file $folder/flows": ["save_stream_file"],
    "--ssl-insecure": ["ssl_insecure"],
    "--set validate_inbound_headers=false": ["validate_inbound_headers"],
    "-s $folder/second.py": ["scripts"],
    "--set stickyauth=.* --set stickycookie=.* --modify-headers |Authorization|x --map-local |.*|/srv "
    "--set body_size_limit=1g --set proxyauth=any --set hardump=$folder/har --client-replay $folder/flows": [
        "stickyauth", "stickycookie", "modify_headers", "map_local", "body_size_limit", "proxyauth", "hardump",
        "client_replay",
    ],
}  # fmt: skip
ALLOWED = "--set termlog_verbosity=info --set tcp_timeout=30 --set http2=false --set keep_host_header=true"


def options(line: str, folder: Path) -> list[str]:
    """The words of a command line, with `$folder` filled in."""
    return line.replace("$folder", str(folder)).split(" ")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where there is a file of flows to replay, and a second script."""
    (tmp_path / "flows").touch()
    (tmp_path / "second.py").write_text("addons = []")
    return tmp_path


def refusal(scene: Scene) -> str:
    """What is said by a gateway that must not start."""
    with pytest.raises(ProcessFailedError, match="ended with status 1"), scene:
        pass
    return scene.gateway.log


@pytest.mark.parametrize("line", REFUSED)
def test_an_option_that_undoes_the_policy_stops_the_start(folder: Path, line: str) -> None:
    """Exit status 1, and a message that names the option and says where to look for it."""
    said = refusal(Scene(folder / "scene", options=options(line, folder)))
    assert [name for name in REFUSED[line] if f"{name} (" not in said] == []
    assert "config.yaml" in said


def test_options_in_the_configuration_file_count_too(tmp_path: Path) -> None:
    """The file config.yaml of mitmproxy is no way round: the same option there stops the start, too."""
    scene = Scene(tmp_path)
    config = scene.gateway.folder / "mitmproxy" / "config.yaml"
    config.parent.mkdir()
    config.write_text(yaml.safe_dump({"map_remote": ["|//127.0.0.1|//elsewhere.example"]}))
    assert "map_remote (" in refusal(scene)


@pytest.mark.parametrize("mode", ["socks5", "upstream:http://127.0.0.1:9", "transparent", "reverse:tcp://127.0.0.1:9"])
def test_a_mode_that_undoes_the_policy_stops_the_start(tmp_path: Path, mode: str) -> None:
    """Only HTTP that is spoken to the gateway itself passes every stage: other modes stop the start."""
    assert f"mode {mode} (" in refusal(Scene(tmp_path, mode=mode))


def test_an_option_that_cannot_be_read_stops_the_start(tmp_path: Path) -> None:
    """A policy named twice must not leave a mitmproxy that runs with none."""
    said = refusal(Scene(tmp_path, options=["--set", f"sod_policy={tmp_path}"]))
    assert "sod_policy" in said
    assert "Give each --set once." in said


def test_an_unknown_option_of_ours_stops_the_start(tmp_path: Path) -> None:
    """A misspelt sod_policy must not leave a gateway that runs by another policy."""
    assert "There is no option sod_polcy." in refusal(Scene(tmp_path, options=["--set", "sod_polcy=x"]))


def test_a_reverse_proxy_to_no_upstream_stops_the_start(tmp_path: Path) -> None:
    """It would refuse every call; the control is below."""
    assert "no upstream of the policy is at 127.0.0.1:9;" in refusal(Scene(tmp_path, mode="reverse:http://127.0.0.1:9"))


# What mitmproxy has left, told by itself from inside: a copy of sod.py with one more addon, which only looks.
LOOKOUT = """
import json
from mitmproxy import ctx
from mcp_sod.chain import Chain

class Lookout:
    def request(self, flow):
        entries = ctx.master.addons.chain
        inner = [getattr(one, "name", type(one).__name__.lower()) for entry in entries for one in known(entry)]
        with open(__file__ + ".json", "w") as out:
            json.dump(inner, out)

def known(entry):
    return [entry, *getattr(entry, "addons", [])]

addons = [Lookout(), Chain()]
"""


def test_only_addons_with_work_to_do_are_left(tmp_path: Path) -> None:
    """While the gateway runs, mitmproxy has no addon left that could map, modify, replay or save what passes."""
    with Scene(tmp_path, script=LOOKOUT) as scene:
        assert passed(scene.call())
        left = json.loads(Path(f"{scene.gateway.script}.json").read_text())
    ours = {"sod-busy", "sod-arrival", "sod-gate"}
    script = {name for name in left if name.startswith("scriptmanager:")}
    assert set(left) - ours - script == {"proxyserver", "nextlayer", "tlsconfig", "scriptloader"}


def test_allowed_options_are_no_obstacle(tmp_path: Path) -> None:
    """The control: with options that do not touch the policy the gateway starts, and calls pass."""
    with Scene(tmp_path, options=ALLOWED.split(" ")) as scene:
        assert passed(scene.call())


def test_a_reverse_proxy_is_an_allowed_mode(tmp_path: Path) -> None:
    """The control for modes: in front of a listed upstream the gateway starts, and calls to itself pass."""
    with Scene(tmp_path, mode="reverse") as scene:
        assert "Gateway gw-test runs by the policy in " in scene.gateway.log
        assert passed(raw_call(f"{scene.gateway.url}/mcp", "get_customer", token=scene.token()))
