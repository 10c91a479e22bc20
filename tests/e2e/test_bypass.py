"""No way round: with the rules that the README shows, the upstream is reached through the gateway alone."""

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import pytest
import yaml

from tests.conftest import SKIP_NOTHING
from tests.world import namespaces
from tests.world.client import call_body, call_headers
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer
from tests.world.namespaces import Machine, Network, RemoteEcho
from tests.world.policies import DEFAULT, default_policy
from tests.world.process import ROOT
from tests.world.scene import GOOD, GOOD_BODY, MASKED, SECRET, SENDER

pytestmark = pytest.mark.namespaces
RULES = re.findall(r"```nft\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
PORT, REVERSE = 9000, 9001
HERE, GATEWAY, UPSTREAM = 30, 10, 20  # the gateway's address is the README's


class Site:
    """A client, a gateway and an upstream, on a machine each."""

    def __init__(self, folder: Path) -> None:
        self._stack = ExitStack()
        self._folder = folder

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            network = stack.enter_context(Network(HERE, GATEWAY, UPSTREAM))
            self.client, self.gateway, self.upstream = network.machines
            self.echo = stack.enter_context(RemoteEcho(self.upstream, PORT, GOOD))
            self.urls = tuple(f"http://{host}:{PORT}/mcp" for host in (self.upstream.four, f"[{self.upstream.six}]"))
            self._start_gateway(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _start_gateway(self, stack: ExitStack) -> None:
        issuer = Issuer(self._folder / "issuer")
        six = {"six": {"url": self.urls[1], "speaks": "mcp"}}
        roles = yaml.safe_load((DEFAULT / "roles.yaml").read_text())
        permitted = roles["permissions"]["prompt-sender"]
        permitted += [{**permitted[0], "upstream": "six"}]
        self.token = issuer.token("ada", groups=SENDER, email="ada@people.example")
        policy = default_policy(issuer, self.urls[0], upstreams=six, roles=roles)
        options = ["--listen-host", "0.0.0.0", "--mode", f"reverse:http://[{self.upstream.six}]:{PORT}@{REVERSE}"]  # noqa: S104 (nobody else is on that network)
        running = Gateway(self._folder / "gateway", policy, options=options)
        stack.callback(running.stop)
        self.gateway.run(running.start)
        self.policy, self.proxy = running.policy_folder, f"http://{self.gateway.four}:{running.port}"
        self.reverse = f"http://{self.gateway.four}:{REVERSE}/mcp"

    def shut(self) -> None:
        """Applies the README's rules to the upstream's machine."""
        self.upstream.command("nft", "-f", "-", given=RULES[0])

    def unshut(self) -> None:
        """Takes them away, so that a test after this one starts as this one did."""
        self.upstream.command("nft", "flush", "ruleset")

    def call(self, url: str, *, proxy: str | None) -> bytes | None:
        """The reply to a client's `tools/call`; None if there is no connection.

        By http.client, since httpx leaves out the brackets of an IPv6 address in what it asks of a proxy.
        """
        body, headers = json.dumps(call_body("get_customer", {})), call_headers("get_customer", self.token)

        def exchange() -> bytes | None:
            http = HTTPConnection(urlsplit(proxy or url).netloc, timeout=15)
            try:
                http.request("POST", url if proxy else urlsplit(url).path, body, headers)
                return http.getresponse().read()
            except ConnectionRefusedError:
                return None
            finally:
                http.close()

        return self.client.run(exchange)

    def doctor(self, *words: str | Path, machine: Machine | None = None) -> tuple[int, dict[str, Any]]:
        """The command's exit status, and its verdicts by URL; the environment leads to the gateway, as clients' do."""
        env = {**os.environ, "HTTP_PROXY": self.proxy, "http_proxy": self.proxy}
        command = [sys.executable, ROOT / "scripts" / "doctor.py", "bypass", *words, "--json", "--timeout", "2s"]
        done = (machine or self.client).run(
            lambda: subprocess.run(command, env=env, capture_output=True, text=True, check=False)
        )
        assert done.stdout, done.stderr
        return done.returncode, {one["url"]: one["verdict"] for one in json.loads(done.stdout)}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """The three machines; skips where they cannot be made, unless nothing may be skipped."""
    if not namespaces.available():
        missing = "network namespaces need root, iproute2 and nftables"
        (pytest.fail if SKIP_NOTHING else pytest.skip)(missing)
    with Site(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture
def site(built: Site) -> Iterator[Site]:
    """The three machines without any rules."""
    yield built
    built.unshut()


def test_without_the_rules_there_is_a_way_round(site: Site) -> None:
    """The control: the client reaches the upstream by IPv4 and IPv6, past the gateway, and doctor says open."""
    for url in site.urls:
        assert site.call(url, proxy=None) == GOOD_BODY  # unmasked: the gateway saw nothing of it
    assert site.doctor(site.policy) == (1, dict.fromkeys(site.urls, "open"))


def test_with_the_rules_the_gateway_is_the_only_way(site: Site) -> None:
    """Calls pass through the gateway, masked; direct ones find no connection, and doctor says closed."""
    site.shut()
    before = len(site.echo.arrived)
    for url in site.urls:
        assert site.call(url, proxy=None) is None
    assert site.doctor(site.policy) == (0, dict.fromkeys(site.urls, "closed"))
    assert len(site.echo.arrived) == before
    for through in (site.call(site.urls[0], proxy=site.proxy), site.call(site.reverse, proxy=None)):  # by IPv4, IPv6
        assert through is not None
        assert MASKED.encode() in through, through
        assert SECRET.encode() not in through
    assert len(site.echo.arrived) == before + 2
    assert site.doctor(site.policy, machine=site.gateway) == (1, dict.fromkeys(site.urls, "open"))


def test_the_rules_hold_on_the_upstreams_own_machine(site: Site) -> None:
    """Whoever is logged in there does not get round either, by whichever address."""
    inside = [*site.urls, f"http://127.0.0.1:{PORT}/mcp", f"http://[::1]:{PORT}/mcp"]
    urls = [word for url in inside for word in ("--url", url)]
    assert site.doctor(*urls, machine=site.upstream) == (1, dict.fromkeys(inside, "open"))
    site.shut()
    assert site.doctor(*urls, machine=site.upstream) == (0, dict.fromkeys(inside, "closed"))


def test_the_rules_cut_what_was_connected_before(site: Site) -> None:
    """A connection that a client opened in time is of no use to it afterwards; loading the rules twice does no harm."""
    for shut in (False, True):
        with site.client.run(lambda: socket.create_connection((site.upstream.four, PORT), timeout=3)) as early:
            if shut:
                site.shut()
                site.shut()
            early.sendall(b"GET / HTTP/1.1\r\n\r\n")
            if not shut:
                assert early.recv(100).startswith(b"HTTP/1.1 200")
                continue
            with pytest.raises(ConnectionResetError):
                early.recv(100)
    assert site.upstream.command("nft", "list", "ruleset").count("reject") == 2


def test_other_ports_stay_as_they_were(site: Site) -> None:
    """The rules are about the upstream's port alone."""
    with RemoteEcho(site.upstream, PORT + 1, GOOD):
        assert site.client.accepts(site.upstream.four, PORT + 1)
        site.shut()
        assert site.client.accepts(site.upstream.four, PORT + 1)
        assert not site.client.accepts(site.upstream.four, PORT)


def test_nothing_is_left_behind(site: Site) -> None:
    """Namespaces that are let go of are gone: no descriptor of this process leads to one, and none has a name."""
    assert site.client.path
    held = _namespaces()
    with Network(1, 2):
        assert len(_namespaces() - held) == 3
    assert _namespaces() == held
    with pytest.raises(AssertionError, match="ip address add"), Network(1, 300):  # no such address
        pass
    assert _namespaces() == held


def _namespaces() -> set[str]:
    """The network namespaces that this process holds open."""
    targets = set()
    for entry in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # the descriptor by which the folder is read
            targets.add(str(entry.readlink()))
    return {target for target in targets if target.startswith("net:")}
