"""Clients on Node, with the official TypeScript SDK of either line, through the gateway in both modes.

In regular mode Node is led by `NODE_USE_ENV_PROXY=1 HTTP_PROXY=…` alone, and makes a tunnel (CONNECT) for http, too.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest

from tests.world.approver import vote
from tests.world.client import LEGACY, MODERN
from tests.world.conformance_kit import Kit
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer
from tests.world.policies import default_policy
from tests.world.process import ROOT
from tests.world.scene import SENDER, Scene
from tests.world.talker import SECRET
from tests.world.talks import FORBIDDEN, OLDER, Mode, Talks, Way
from tests.world.tls import Authority, SecureBank

PINS = ROOT / "tests" / "node"
MASKED = "[masked:secret]"
CLIENTS: Sequence[tuple[int, Way]] = ((1, OLDER), (1, LEGACY), (2, LEGACY), (2, MODERN))


@dataclass(frozen=True, slots=True)
class Node:
    """Node with both SDKs, and the script that uses them."""

    kit: Kit
    folder: Path

    def talk(
        self, talks: Talks, sdk: int, way: Way, *calls: Mapping[str, Any], word: str = "gold", url: str = ""
    ) -> list[Any]:
        """What the script wrote down: pairs of event and value."""
        told = {
            "sdk": sdk,
            "way": way,
            "url": url or talks.url("older" if way == OLDER else "tools"),
            "token": talks.token(),
            "word": word,
            "calls": calls,
        }
        return self.said(told, _environment(talks.proxy))

    def said(self, told: Mapping[str, Any], env: Mapping[str, str]) -> list[Any]:
        """What the script wrote down when it was told this, in this environment."""
        command: list[str | Path] = [self.kit.node, self.folder / "talk.mjs", json.dumps(told)]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        return [(line["event"], line["value"]) for line in lines]


@pytest.fixture(scope="module")
def node() -> Node:
    """Node, and the SDKs as they are locked; both are kept in .venv."""
    kit = Kit.bring()
    locked = b"".join((PINS / name).read_bytes() for name in ("package.json", "package-lock.json"))
    folder = ROOT / ".venv" / "node" / hashlib.sha256(locked).hexdigest()[:16]
    fresh = folder.with_name(f"fresh-{os.getpid()}")
    if not folder.exists():
        shutil.copytree(PINS, fresh)
        npm: list[str | Path] = [kit.node, kit.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(npm, cwd=fresh, capture_output=True, timeout=300, check=True)
        with suppress(OSError):  # another run was quicker
            fresh.rename(folder)
        shutil.rmtree(fresh, ignore_errors=True)
    shutil.copy(PINS / "talk.mjs", folder)
    return Node(kit, folder)


@pytest.fixture(scope="module", params=["regular", "reverse"])
def talks(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Talks]:
    """The talkers behind a gateway, led through in either way."""
    mode: Mode = request.param
    with Talks(tmp_path_factory.mktemp(f"node-{mode}"), mode) as running:
        yield running


def _environment(proxy: str | None) -> dict[str, str]:
    """This process's, but led through the proxy or through none."""
    names = {"http_proxy", "https_proxy", "all_proxy", "no_proxy", "node_use_env_proxy", "node_options"}
    rest = {name: value for name, value in os.environ.items() if name.lower() not in names}
    return {**rest, "HTTP_PROXY": proxy, "NODE_USE_ENV_PROXY": "1"} if proxy else rest


def _results(said: Sequence[Any]) -> list[str]:
    return [json.dumps(value) for event, value in said if event in ("result", "error", "failed")]


@pytest.mark.parametrize(("sdk", "way"), CLIENTS)
def test_a_node_client_talks_through_the_gateway(talks: Talks, node: Node, sdk: int, way: Way) -> None:
    """It connects, lists, calls, hears progress, and answers what the server asks; every secret is masked for it."""
    seen = talks.watch()
    calls: list[dict[str, Any]] = [{"name": name, "arguments": {}} for name in ("report", "ask", "sample", "roots")]
    said = node.talk(talks, sdk, way, *calls)
    assert said[0][0] == "tools", said
    assert {"ask", "report"} <= set(said[0][1])
    progress = [value for event, value in said if event == "progress" and value.startswith("step")]
    assert progress == [f"step {n} at {MASKED}" for n in (1, 2, 3)]
    asked = [f"Which word goes with {MASKED}?", f"Finish: {MASKED}", "for roots"]
    assert [value for event, value in said if event == "asked"] == asked
    report, *answered = _results(said)
    assert f"3 steps {MASKED}" in report
    assert [("gold" in result, MASKED in result) for result in answered] == [(True, True)] * 3
    assert SECRET not in json.dumps(said)
    assert {one.rpc_method for one in seen.arrived} >= {"tools/list", "tools/call"}


@pytest.mark.parametrize(("sdk", "way"), CLIENTS)
def test_a_node_client_shows_why_a_call_was_not_made(talks: Talks, node: Node, sdk: int, way: Way) -> None:
    """A refused and a held call end with the gateway's sentence, and the session lives; a yes lets the call through."""
    mark = f"{sdk} {way} {SECRET}"
    held = {"name": "wait", "arguments": {"seconds": 0, "mark": mark}}
    refused = {"name": "wait", "arguments": {"seconds": 0, "mark": FORBIDDEN}}
    after = {"name": "report", "arguments": {"steps": 1}}
    said = node.talk(talks, sdk, way, refused, held, after)
    no, waits, works = _results(said)
    assert "rule forbidden" in no
    assert (ticket := re.search(r"t-[0-9a-f]{12}", waits)), waits
    assert MASKED in works
    assert not any(fate.startswith((mark, FORBIDDEN)) for fate in talks.talker.fates())
    assert vote(cast("Scene", talks), ticket[0]).status_code == 200  # it has an issuer and a gateway, like a scene
    (through,) = _results(node.talk(talks, sdk, way, held))
    assert f"waited {MASKED}" in through
    assert f"{mark} finished" in talks.talker.fates()


@pytest.mark.parametrize(("sdk", "way"), [CLIENTS[0], CLIENTS[-1]])
def test_a_node_client_is_led_through_the_gateway(talks: Talks, node: Node, sdk: int, way: Way) -> None:
    """What is no upstream is not reached: not through a tunnel either, and not round the gateway."""
    elsewhere = f"{talks.terse.origin if talks.proxy else talks.gateway.url}/elsewhere"
    seen = talks.watch()
    ((event, _),) = node.talk(talks, sdk, way, url=elsewhere)
    assert event == "failed"
    assert seen.arrived == []
    assert seen.record(code="unlisted")


@pytest.mark.parametrize(("sdk", "way"), [(1, LEGACY), (2, MODERN)])
def test_a_node_client_reaches_an_https_server(node: Node, tmp_path: Path, sdk: int, way: Way) -> None:
    """Led by HTTPS_PROXY, it trusts the gateway's CA, the gateway the server's; without that, nothing goes."""
    authority = Authority(tmp_path / "authority")
    bank, issuer = SecureBank(tmp_path / "bank", authority.issue("localhost")), Issuer(tmp_path / "issuer")
    options = ["--set", f"ssl_verify_upstream_trusted_ca={authority.file}"]
    with bank, Gateway(tmp_path / "gateway", default_policy(issuer, bank.url), options=options) as gateway:
        token = issuer.token("ada", groups=SENDER, email="ada@people.example")
        calls = [{"name": "get_customer", "arguments": {"id": 1}}]
        told = {"sdk": sdk, "way": way, "url": bank.url, "token": token, "word": "gold", "calls": calls}
        led = {**_environment(None), "HTTPS_PROXY": gateway.url, "NODE_USE_ENV_PROXY": "1"}
        trusted = str(gateway.folder / "mitmproxy" / "mitmproxy-ca-cert.pem")
        said = node.said(told, {**led, "NODE_EXTRA_CA_CERTS": trusted})
        assert [event for event, _ in said] == ["tools", "result"], said
        assert "[masked:" in json.dumps(said)
        assert [event for event, _ in node.said(told, led)] == ["failed"]
