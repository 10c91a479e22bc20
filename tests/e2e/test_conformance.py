"""The MCP conformance suite comes to the same verdict on every check with the gateway in between as without it.

The suite, its server and its client are the protocol's own, pinned and unchanged (see tests/world/conformance_kit.py).
"""

import shlex
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import pytest

from tests.world.conformance import EverythingServer, Revision, Suite, Verdicts, differences, scenarios
from tests.world.conformance_kit import Kit
from tests.world.conformance_policy import caller_token, open_policy
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer
from tests.world.trail import Trail

REVISIONS: tuple[Revision, ...] = get_args(Revision)
Mode = Literal["regular", "reverse"]

# How many checks the SDK's server passes by itself, at least, and which it fails: the tasks extension, which it lacks.
PASSED = {"2025-11-25": 80, "2026-07-28": 160}
LACKING = "tasks-"

# On what the verdicts differ, and why that must be. Each is a security answer; nothing else may stand here.
UNMASKABLE = "What cannot be masked is not delivered to a reader to whom masks apply."
FOR_MASKED_READERS = {
    "prompts-get-with-image/prompts-get-with-image": UNMASKABLE,
    "resources-read-binary/resources-read-binary": UNMASKABLE,
    "tools-call-audio/tools-call-audio": UNMASKABLE,
    "tools-call-image/tools-call-image": UNMASKABLE,
    "tools-call-mixed-content/tools-call-mixed-content": UNMASKABLE,
}
FOR_EVERYONE: dict[str, str] = {}

# Client scenarios that no gateway which owns the Authorization header can be in, by how their names begin.
LEFT_OUT = {
    "auth/": "They judge how the client gets a token from the MCP server's authorization servers and shows it to that "
    "server; the gateway takes the Authorization header for itself, and those servers are no upstreams of it.",
}
CLIENT_PASSED = {"2025-11-25": 20, "2026-07-28": 60}


@dataclass(frozen=True, slots=True)
class Lab:
    """What every trial needs, and what the suite says of the server with nothing in between."""

    kit: Kit
    issuer: Issuer
    direct: Mapping[Revision, Verdicts]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    """The suite, brought once and then kept, and its verdicts on the server alone."""
    kit, issuer, direct = Kit.bring(), Issuer(tmp_path_factory.mktemp("issuer")), dict[Revision, Verdicts]()
    for revision in REVISIONS:
        folder = tmp_path_factory.mktemp(revision)
        with EverythingServer(kit, folder / "server") as server:
            suite = Suite(kit, folder / "suite")
            direct[revision] = suite.judge_server(server.url, revision, token=caller_token(issuer))
    return Lab(kit, issuer, direct)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_server_alone(lab: Lab, revision: Revision) -> None:
    """The verdicts to compare with are many and good: the server fails nothing but the extension it lacks."""
    verdicts = lab.direct[revision]
    assert Counter(verdicts.values())["SUCCESS"] >= PASSED[revision]
    assert [name for name, one in verdicts.items() if one == "FAILURE" and not name.startswith(LACKING)] == []


@pytest.mark.parametrize("revision", REVISIONS)
@pytest.mark.parametrize("mode", get_args(Mode))
def test_a_server_behind_the_gateway(lab: Lab, tmp_path: Path, mode: Mode, revision: Revision) -> None:
    """Someone who may see every value gets every verdict that the server got alone."""
    with _gateway(lab, tmp_path, mode) as way:
        found = _differing(lab, way, revision, raw=True)
    assert found == _reasons(FOR_EVERYONE), "\n".join(found)


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_server_behind_masks(lab: Lab, tmp_path: Path, revision: Revision) -> None:
    """With every reply and stream led through the masker, only what cannot be masked is judged differently."""
    with _gateway(lab, tmp_path, "reverse") as way:
        found = _differing(lab, way, revision, raw=False)
    assert found == _reasons(FOR_EVERYONE | FOR_MASKED_READERS), "\n".join(found)


def test_a_caller_without_a_token(lab: Lab, tmp_path: Path) -> None:
    """Control: where the gateway lets nothing pass, the suite has much to say."""
    with _gateway(lab, tmp_path, "regular") as way:
        verdicts = way.judge("2025-11-25", token="")
    assert Counter(verdicts.values())["SUCCESS"] < PASSED["2025-11-25"] / 2
    assert _forwarded(way.gateway.folder) == 0


@pytest.mark.parametrize("revision", REVISIONS)
def test_a_client_behind_the_gateway(lab: Lab, tmp_path: Path, revision: Revision) -> None:
    """The SDK's client gets every verdict that it gets alone, and has really gone through the gateway."""
    names = sorted(name for name in scenarios(lab.kit, revision) if not name.startswith(tuple(LEFT_OUT)))

    def judge(name: str) -> tuple[Verdicts, Verdicts, int]:
        alone = _judge_client(lab.kit, tmp_path / name / "alone", name, revision)
        behind = _judge_client(lab.kit, tmp_path / name / "behind", name, revision, "--gateway")
        return alone, behind, _forwarded(tmp_path / name / "behind" / "client")

    with ThreadPoolExecutor(2) as pool:
        judged = dict(zip(names, pool.map(judge, names), strict=True))
    assert sum(Counter(alone.values())["SUCCESS"] for alone, _, _ in judged.values()) >= CLIENT_PASSED[revision]
    assert [differences(alone, behind) for alone, behind, _ in judged.values()] == [{} for _ in names]
    assert [name for name, (_, _, forwarded) in judged.items() if not forwarded] == []


@dataclass(frozen=True, slots=True)
class Way:
    """A way to a server, through a gateway: the URL by which a client knows it, and the proxy it is told of."""

    gateway: Gateway
    suite: Suite
    url: str
    proxy: str | None

    def judge(self, revision: Revision, *, token: str) -> Verdicts:
        """What the suite says of the server at the end of this way."""
        return self.suite.judge_server(self.url, revision, token=token, proxy=self.proxy)


@contextmanager
def _gateway(lab: Lab, folder: Path, mode: Mode) -> Iterator[Way]:
    """A gateway before a server of its own."""
    with EverythingServer(lab.kit, folder / "server") as server:
        place = "regular" if mode == "regular" else f"reverse:{server.url.removesuffix('/mcp')}"
        # The server turns away a Host that is not its own: that is one of the checks.
        options = ["--set", "keep_host_header=true"]
        gateway = Gateway(folder / "gateway", open_policy(lab.issuer, server.url), mode=place, options=options)
        suite = Suite(lab.kit, folder / "suite")
        with gateway:
            regular = mode == "regular"
            yield Way(gateway, suite, server.url if regular else f"{gateway.url}/mcp", gateway.url if regular else None)


def _differing(lab: Lab, way: Way, revision: Revision, *, raw: bool) -> dict[str, str]:
    """The checks judged otherwise than direct, with how; the suite has really gone through the gateway."""
    verdicts = way.judge(revision, token=caller_token(lab.issuer, raw=raw))
    assert _forwarded(way.gateway.folder) >= PASSED[revision] / 2
    return {name: f"{one} {other}" for name, (one, other) in differences(lab.direct[revision], verdicts).items()}


def _reasons(table: Mapping[str, str]) -> dict[str, str]:
    """What a table of differences says will be seen: what the server passes, the gateway refuses."""
    return dict.fromkeys(table, "SUCCESS FAILURE")


def _judge_client(kit: Kit, folder: Path, scenario: str, revision: Revision, *options: str) -> Verdicts:
    words = [sys.executable, "-m", "tests.world.conformance_client", *options, kit.client, folder / "client"]
    return Suite(kit, folder / "suite").judge_client(scenario, revision, shlex.join(map(str, words)))


def _forwarded(folder: Path) -> int:
    """How many messages the gateway of this folder has let go."""
    records = Trail(folder / "state", folder / "var" / "audit").read()
    return Counter(record["event"] for record in records)["forwarded"]
