"""The doctor command, against servers on loopback."""

import asyncio
import errno
import json
import socket
from collections.abc import Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest
import yaml
from mcp_sod.cli import main
from mcp_sod.cli.bypass import MAX_HEAD, Place, try_all
from mcp_sod.cli.doctor import app
from mcp_sod.policy.upstreams import Speaks
from typer.testing import CliRunner, Result

from tests.unit.making import EMPTY, GATEWAY
from tests.world.client import proxy_environment
from tests.world.echo import SSE_TYPE, Echo, Reply
from tests.world.process import ROOT, free_port
from tests.world.tls import Authority, SecureEcho

RUN = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"})
HIDDEN = "tell-nobody"


def run(*words: str, **options: Any) -> Result:
    """The command, which waits a second at most for each step."""
    return RUN.invoke(app, ["bypass", "--timeout", "1s", *words], **options)


def verdicts(said: Result) -> list[str]:
    """The verdicts of a run with --json."""
    return [one["verdict"] for one in json.loads(said.stdout)]


def shut() -> str:
    """A URL at which nothing listens."""
    return f"http://127.0.0.1:{free_port()}/mcp"


def folder_of(path: Path, upstreams: Mapping[str, Any], **sections: Any) -> str:
    """A policy folder as it may lie on a client's machine: written, but never loaded by a gateway."""
    whole = {"version": 1, "gateway": GATEWAY, **EMPTY, "upstreams": upstreams, **sections}
    (path / "policy.yaml").write_text(yaml.safe_dump(whole, sort_keys=False))
    return str(path)


def test_closed_is_no_connection() -> None:
    """Exit status 0, and only then; a loopback address is said to be of little worth."""
    said = run("--url", shut())
    assert said.exit_code == 0
    assert said.stdout.startswith("closed: 127.0.0.1:")
    assert "but: this address is the machine itself" in said.stdout
    assert "No way round from here: 1 tried." in said.stdout


@pytest.mark.parametrize(
    ("status", "verdict"),
    [(200, "open"), (401, "guarded"), (403, "guarded"), (404, "open"), (302, "open"), (407, "open"), (503, "open")],
)
def test_whoever_answers_is_not_closed(echo: Echo, status: int, verdict: str) -> None:
    """Guarded is a 401 or a 403, open is any other answer; neither is an exit status of 0."""
    echo.answer(Reply.whole(HIDDEN.encode(), status=status))
    said = run("--url", echo.url, "--url", shut())
    assert said.exit_code == 1
    assert said.stdout.splitlines()[0].startswith(f"{verdict}: ")
    assert str(status) in said.stdout.splitlines()[0]
    assert "1 of 2 are not shown to be closed" in said.stdout
    assert HIDDEN not in said.output


ANSWERS = {
    "silence": Reply((30.0,)),
    "nothing": Reply(()),
    "no HTTP": Reply((b"SSH-2.0-OpenSSH_9.9\r\n\r\n",)),
    "no status": Reply((b"HTTP/1.1 what OK\r\n\r\n",)),
    "half a head": Reply((b"HTTP/1.1 401 No\r\nA: b\r\n",)),
    "an endless head": Reply((b"HTTP/1.1 200 OK\r\nA: " + b"a" * (4 * MAX_HEAD), 30.0)),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_what_takes_a_connection_and_says_nothing_is_unknown(echo: Echo, name: str) -> None:
    """It is not proven to be shut, so it does not count as closed; and not much of it is read, nor for long."""
    echo.answer(ANSWERS[name])
    said = run("--url", echo.url, "--json")
    assert (said.exit_code, verdicts(said)) == (1, ["unknown"])
    echo.answer(Reply.whole(b"{}"))
    assert verdicts(run("--url", echo.url, "--json")) == ["open"]


def test_a_name_that_does_not_resolve_is_unknown(echo: Echo) -> None:
    """Another resolver may know it: exit status 1, and what to do."""
    said = run("--url", f"http://nowhere.invalid:{echo.port}/mcp")
    assert said.exit_code == 1
    assert said.stdout.startswith("unknown: nowhere.invalid")
    assert "give its address with --url" in said.stdout
    assert verdicts(run("--url", f"http://localhost:{echo.port}/mcp", "--json")) == ["open"]


async def test_every_address_of_a_name_is_tried(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """One that is open makes the name open, wherever in the list it stands."""
    addresses = ["127.0.0.2", "127.0.0.1", "127.0.0.3"]

    async def resolve(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, echo.port)) for each in addresses]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", resolve)
    place = Place("x", f"http://many.example:{echo.port}/mcp", "mcp")
    (outcome,) = await try_all([place], 1, lambda _: None)
    assert (outcome.verdict, outcome.tried) == ("open", tuple(addresses))
    assert outcome.reason.startswith("127.0.0.1: ")
    addresses.remove("127.0.0.1")
    (outcome,) = await try_all([place], 1, lambda _: None)
    assert outcome.verdict == "closed"


@pytest.mark.parametrize(
    ("error", "verdict"),
    [
        (OSError(errno.EHOSTUNREACH, "no"), "closed"),
        (OSError(errno.ENETUNREACH, "no"), "closed"),
        (PermissionError(errno.EPERM, "no"), "closed"),
        (TimeoutError(), "closed"),
        (OSError(errno.EMFILE, "too many"), "unknown"),
        (OSError("what?"), "unknown"),
    ],
)
async def test_only_a_network_that_says_no_is_closed(
    monkeypatch: pytest.MonkeyPatch, error: OSError, verdict: str
) -> None:
    """What this machine could not try, for want of descriptors, is not shown to be closed."""

    async def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(asyncio, "open_connection", refuse)
    (outcome,) = await try_all([Place("x", "http://127.0.0.1:9/", "http")], 1, lambda _: None)
    assert outcome.verdict == verdict


async def test_a_port_that_swallows_is_closed_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """A filter that drops without a word is noticed by the time limit, for many places at once."""

    async def swallow(*_: object, **__: object) -> None:
        await asyncio.sleep(30)

    monkeypatch.setattr(asyncio, "open_connection", swallow)
    told: list[str] = []
    async with asyncio.timeout(3):
        places = [Place(str(number), "http://127.0.0.1:9/", "http") for number in range(20)]
        outcomes = await try_all(places, 0.2, lambda one: told.append(one.place.name))
    assert {one.verdict for one in outcomes} == {"closed"}
    assert [one.place for one in outcomes] == places
    assert sorted(told) == sorted(place.name for place in places)


ASKED: list[tuple[Speaks, str, str, str]] = [
    ("mcp", "/mcp?tenant=a", "POST", "/mcp?tenant=a"),
    ("mcp-sse", "/sse", "GET", "/sse"),
    ("openai", "/v1", "GET", "/v1/models"),
    ("anthropic", "/v1/", "GET", "/v1/models"),
    ("http", "/api/", "GET", "/api/"),
    ("http", "", "GET", "/"),
]


@pytest.mark.parametrize(("speaks", "path", "method", "target"), ASKED)
def test_what_is_asked_changes_nothing(echo: Echo, speaks: Speaks, path: str, method: str, target: str) -> None:
    """MCP is greeted, everything else only read; no credential is shown, and no tool called."""
    url = echo.url.removesuffix("/mcp") + path
    said = run("--url", url, "--speaks", speaks, "--json")
    assert verdicts(said) == ["open"]
    assert "tenant" not in said.output
    (request,) = echo.arrived
    head, _, body = request.partition(b"\r\n\r\n")
    assert head.startswith(f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:{echo.port}\r\n".encode())
    assert b"authorization" not in head.lower()
    assert b"cookie" not in head.lower()
    assert [json.loads(body)["method"]] == ["initialize"] if method == "POST" else not body


def test_a_stream_is_left_at_once(echo: Echo) -> None:
    """Of an SSE endpoint that never ends only the head is read."""
    echo.answer(Reply.chunked([b"event: endpoint\ndata: /x\n\n", 30.0], headers=[SSE_TYPE]))
    assert verdicts(run("--url", echo.url, "--speaks", "mcp-sse", "--json")) == ["open"]


def test_an_interim_answer_is_not_the_answer(echo: Echo) -> None:
    """103, then 401: guarded."""
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"
    echo.answer(Reply((early, *Reply.whole(b"", status=401).parts)))
    assert verdicts(run("--url", echo.url, "--json")) == ["guarded"]


def test_a_private_certificate_does_not_close_anything(tmp_path: Path) -> None:
    """Over TLS whatever certificate there is will do; a port that speaks no TLS is unknown."""
    with SecureEcho(Authority(tmp_path).issue("elsewhere.example"), protocols=["http/1.1"]) as secure, Echo() as plain:
        said = run("--url", secure.url, "--url", plain.url.replace("http:", "https:"), "--json")
    assert verdicts(said) == ["open", "unknown"]


def test_no_proxy_is_used(echo: Echo) -> None:
    """Clients are led through the gateway by their environment; this goes past it."""
    with Echo() as gateway:
        proxy = f"http://127.0.0.1:{gateway.port}"
        said = run("--url", echo.url, "--json", env={**proxy_environment(proxy), "http_proxy": proxy})
        assert verdicts(said) == ["open"]
        assert gateway.connections == 0


def test_a_policy_is_enough_and_its_secrets_are_not_needed(tmp_path: Path, echo: Echo) -> None:
    """Where the clients are lie neither key files nor credentials; every upstream is tried, in the policy's order."""
    upstreams = {
        "tools": {"url": echo.url, "speaks": "mcp", "credential": {"bearer": {"file": "nowhere"}}},
        "orders": {"url": shut(), "speaks": "http", "credential": {"bearer": {"env": "SOD_NOT_THERE"}}},
    }
    issuer = {"issuer": "https://i.example", "audience": ["a"], "keys": {"file": "nowhere.json"}, "machine": "none"}
    folder = folder_of(tmp_path, upstreams, identity=[issuer])
    said = run(folder, "--json")
    assert [(one["name"], one["verdict"]) for one in json.loads(said.stdout)] == [
        ("tools", "open"),
        ("orders", "closed"),
    ]
    assert verdicts(run(folder, "--url", shut(), "--json")) == ["open", "closed", "closed"]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--url", "ftp://x/"], "--url is not"),
        (["--url", "http://user:tell-nobody@x/"], "--url is not"),
        (["--url", "http://x:99999/"], "--url is not"),
        (["/nowhere"], "/nowhere cannot be read"),
        (["--timeout", "soon"], "must be a duration"),
    ],
)
def test_what_cannot_be_tried_is_no_success(words: list[str], why: str) -> None:
    """Exit status 2, and why."""
    said = run(*words)
    assert said.exit_code == 2
    assert why in said.output
    assert HIDDEN not in said.output


def test_no_upstream_is_no_success(tmp_path: Path) -> None:
    """An empty policy has nothing that could be closed."""
    said = run(folder_of(tmp_path, {}))
    assert (said.exit_code, "nothing to try" in said.output) == (2, True)


def test_help_has_an_example() -> None:
    """And the command is one of the package's."""
    for words, program in ((["bypass"], app), (["doctor", "bypass"], main.app)):
        said = RUN.invoke(program, [*words, "--help"])
        assert (said.exit_code, "Example: doctor.py bypass --url" in said.stdout) == (0, True)
    assert (ROOT / "scripts" / "doctor.py").stat().st_mode & 0o111


def test_nothing_is_left_open() -> None:
    """Connections to one that stays silent are given up, not kept."""
    with ExitStack() as stack:
        listener = stack.enter_context(closing(socket.create_server(("127.0.0.1", 0))))
        place = Place("x", f"http://127.0.0.1:{listener.getsockname()[1]}/", "http")
        (outcome,) = asyncio.run(try_all([place], 0.2, lambda _: None))
        assert outcome.verdict == "unknown"
        taken, _ = listener.accept()
        with taken:
            taken.settimeout(2)
            assert taken.recv(4096).startswith(b"GET / HTTP/1.1\r\n")
            assert taken.recv(4096) == b""
