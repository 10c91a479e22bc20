"""The MCP conformance suite, run against a server or a client, and what it said of every check.

The suite itself stays as it is: it has no way to send a token, so `tests/conformance/bearer.mjs` is loaded before it.
"""

import json
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from tests.world.conformance_kit import PINS, Kit
from tests.world.process import ROOT, Process, free_port

Revision = Literal["2025-11-25", "2026-07-28"]
Verdicts = Mapping[str, str]  # `scenario/check`, the second of a name with ` 2`, to SUCCESS, FAILURE, WARNING, SKIPPED
PATIENCE = 240  # seconds for one run; the suite itself gives each scenario 30
_SAVED = re.compile(r"(?:server-)?(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")  # the suite's folder for one scenario


class EverythingServer(Process):
    """The SDK's server for this suite, with a state of its own."""

    def __init__(self, kit: Kit, folder: Path) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        command = [sys.executable, "-m", "mcp_everything_server", "--port", str(self.port), "--log-level", "WARNING"]
        super().__init__(command, folder / "server.log", ports=[self.port], env={"PYTHONPATH": str(kit.server)})


@dataclass(frozen=True, slots=True)
class Suite:
    """The suite, whose results go below `folder`."""

    kit: Kit
    folder: Path

    def judge_server(self, url: str, revision: Revision, *, token: str, proxy: str | None = None) -> Verdicts:
        """What it says of the server at `url`, reached through `proxy` or straight, for what the revision requires."""
        preload = {
            "NODE_OPTIONS": f"--import={(PINS / 'bearer.mjs').as_uri()}",
            "SOD_TOKEN": token,
            "SOD_ORIGIN": _origin(url),
        }
        return self._run(["server", "--url", url, "--requirements", revision], {**_route(proxy), **preload})

    def judge_client(self, scenario: str, revision: Revision, command: str) -> Verdicts:
        """What it says of the client that `command` starts, in one scenario; the command gets the server's URL."""
        words = ["client", "--command", command, "--scenario", scenario, "--spec-version", revision]
        return self._run([*words, "--timeout", "60000"], _route(None))

    def _run(self, words: list[str], env: Mapping[str, str]) -> Verdicts:
        """Runs it; its exit status says no more than its results, and fails on what no revision requires."""
        out = self.folder / "results"
        command: list[str | Path] = [self.kit.node, self.kit.suite, *words, "--output-dir", out]
        self.folder.mkdir(parents=True)
        with (self.folder / "suite.log").open("wb") as log:
            subprocess.run(command, cwd=ROOT, env=env, stdout=log, stderr=log, timeout=PATIENCE, check=False)
        found = dict(_verdicts(out))
        assert found, f"the suite has judged nothing; see {log.name}"
        return found


def scenarios(kit: Kit, revision: Revision) -> frozenset[str]:
    """The client scenarios that the suite runs for a revision, scored or not."""
    listed = subprocess.run(
        [kit.node, kit.suite, "list", "--requirements", revision],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    scored = listed.partition("Client scenarios")[2].partition("Run and reported")[0]
    return frozenset(re.findall(r"- (\S+)$", scored, re.MULTILINE)) | frozenset(
        re.findall(r"- (\S+) \[client\]", listed)
    )


def differences(one: Verdicts, other: Verdicts) -> dict[str, tuple[str, str]]:
    """The checks on which two runs disagree, with both verdicts; `-` where a run has none."""
    both = {name: (one.get(name, "-"), other.get(name, "-")) for name in sorted({*one, *other})}
    return {name: verdicts for name, verdicts in both.items() if verdicts[0] != verdicts[1]}


def _verdicts(out: Path) -> Iterator[tuple[str, str]]:
    """Every check of every scenario; INFO is no verdict but a trace of what passed by."""
    for file in sorted(out.glob("*/checks.json")):
        saved = _SAVED.fullmatch(file.parent.name)
        assert saved, f"a folder of another kind: {file.parent}"
        times: Counter[str] = Counter()
        for check in json.loads(file.read_text()):
            if check["status"] != "INFO":
                name = f"{saved['scenario']}/{check['id']}"
                times[name] += 1
                yield (f"{name} {times[name]}" if times[name] > 1 else name), check["status"]


def _route(proxy: str | None) -> dict[str, str]:
    """This process's environment, but leading Node through this proxy, or through none whatever stood there before.

    Names are taken away, not left blank: undici prefers an empty `http_proxy` to a full `HTTP_PROXY`.
    """
    names = {"http_proxy", "https_proxy", "no_proxy", "node_use_env_proxy", "node_options"}
    rest = {name: value for name, value in os.environ.items() if name.lower() not in names}
    return {**rest, "HTTP_PROXY": proxy, "NODE_USE_ENV_PROXY": "1"} if proxy else rest


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"
