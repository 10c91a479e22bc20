"""Which of mitmproxy's options may be changed."""

import subprocess

import pytest
import yaml
from mcp_sod.options import ALLOWED, FORCED, complaint, forced, unknown

from tests.world.gateway import MITMDUMP

LIMIT = 4 << 20
USUAL: list[tuple[str, object, object]] = [("mode", ["regular"], ["regular"]), ("scripts", ["sod.py"], [])]


@pytest.mark.parametrize(
    ("name", "value", "default", "why"),
    [
        ("stream_large_bodies", "1", None, "before they are inspected"),
        ("ignore_hosts", ["x"], [], "without inspection"),
        ("allow_hosts", ["x"], [], "without inspection"),
        ("tcp_hosts", ["x"], [], "without inspection"),
        ("udp_hosts", ["x"], [], "without inspection"),
        ("ssl_insecure", True, False, "impersonated"),
        ("save_stream_file", "x", None, "written to disk"),
        ("hardump", "x", "", "written to disk"),
        ("rawtcp", "x", True, "rawtcp"),
        ("connection_strategy", "x", "eager", "connection_strategy"),
        ("body_size_limit", "1g", None, "body_size_limit"),
        ("modify_body", ["x"], [], "not an option that this gateway can work with"),
        ("an_option_of_tomorrow", 1, 0, "not an option that this gateway can work with"),
        ("mode", ["socks5"], ["regular"], "mode socks5"),
        ("mode", ["transparent"], ["regular"], "mode transparent"),
        ("mode", ["reverse:tcp://x:1"], ["regular"], "mode reverse:tcp"),
        ("mode", ["upstream:http://x:1"], ["regular"], "mode upstream"),
        ("mode", ["reverse:dns://x:1"], ["regular"], "mode reverse:dns"),
        ("mode", ["regular", "wireguard"], ["regular"], "mode wireguard"),
        ("scripts", ["sod.py", "other.py"], [], "another script"),
    ],
)
def test_an_option_that_undoes_the_policy_stops_the_start(name: str, value: object, default: object, why: str) -> None:
    """Changed, it is named with the reason; left alone, it is no obstacle."""
    others = [row for row in USUAL if row[0] != name]
    assert complaint([*others, (name, default, default)], LIMIT) is None
    error = complaint([*others, (name, value, default)], LIMIT)
    assert error is not None
    assert why in error.sentence
    assert "config.yaml" in error.hint


@pytest.mark.parametrize(
    ("name", "value", "default"),
    [
        ("listen_port", 9, 8080),
        ("mode", ["reverse:http://h:1"], ["regular"]),
        ("mode", ["reverse:https://h:1@8443", "regular@8080"], ["regular"]),
        ("mode", ["regular@127.0.0.1:8080"], ["regular"]),
        ("scripts", ["sod.py"], []),
        ("body_size_limit", str(LIMIT), None),
        ("rawtcp", False, True),
        ("keep_host_header", True, False),
    ],
)
def test_what_operators_need_may_be_changed(name: str, value: object, default: object) -> None:
    """Ports, certificates, the two modes, and the gateway's own settings are accepted."""
    others = [row for row in USUAL if row[0] != name]
    assert complaint([*others, (name, value, default)], LIMIT) is None


@pytest.mark.parametrize(
    ("mode", "why"),
    [
        ("reverse:http://127.0.0.1:9000", ""), ("reverse:https://MCP.example@8443", ""), ("regular@8080", ""),
        ("reverse:http://127.0.0.1:9001", "no upstream of the policy is at 127.0.0.1:9001; they are at 127.0.0.1:9000"),
        ("reverse:http://mcp.example", "no upstream of the policy is at mcp.example:80"),
        ("reverse:http://mcp.example:x", "no upstream of the policy is at reverse:http://mcp.example:x:0"),
    ],
)  # fmt: skip
def test_a_reverse_proxy_leads_to_an_upstream(mode: str, why: str) -> None:
    """Leading elsewhere, it would refuse every call; the message says where upstreams are."""
    upstreams = {("127.0.0.1", 9000), ("mcp.example", 443)}
    error = complaint([("mode", ["regular", mode], ["regular"])], LIMIT, upstreams)
    assert (why in error.sentence) if error and why else (error is None and not why)


def test_an_option_that_only_looks_like_ours_stops_the_start() -> None:
    """A misspelt sod_policy would start the gateway with another policy; other scripts' options are theirs."""
    assert unknown(["other_option"]) is None
    error = unknown(["sod_polcy", "other_option"])
    assert error is not None
    assert str(error) == "There is no option sod_polcy. The gateway's one option is sod_policy."


def test_every_wrong_option_is_told_at_once() -> None:
    """One start shows all that is wrong."""
    error = complaint(
        [("mode", ["socks5"], []), ("hardump", "x", ""), ("rawtcp", "x", True), ("scripts", [], [])], LIMIT
    )
    assert error is not None
    assert error.sentence.count(";") == 2


def test_the_lists_speak_of_options_that_there_are() -> None:
    """Each option allowed or forced exists in this mitmproxy, or is our own, so that no entry is stale or misspelt."""
    told = subprocess.run([MITMDUMP, "--options"], capture_output=True, text=True, check=True)
    assert (ALLOWED | FORCED.keys()) - yaml.safe_load(told.stdout).keys() == {"sod_policy"}
    assert forced(7)["body_size_limit"] == "7"
