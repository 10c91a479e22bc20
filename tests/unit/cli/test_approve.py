"""The approve command, against a real console on loopback."""

import asyncio
import json
import re
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import pytest
from mcp_sod.cli.approve import app
from mcp_sod.console.api import build
from mcp_sod.console.server import Server, claim
from mcp_sod.exchange import Finding, Hold
from mcp_sod.policy.findings import Approval
from typer.testing import CliRunner, Result

from tests.unit.house import House
from tests.unit.making import exchange_of, principal_of, tool_call
from tests.world.process import free_port

RUN = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"})


class Office:
    """A console that serves, in a thread with a loop of its own."""

    def __init__(self, folder: Path) -> None:
        self.house = House(folder)
        self.socket = claim("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        self.server = Server(build(self.house), self.socket)
        self.loop = asyncio.new_event_loop()
        self.loop.run_until_complete(self.house.revocations.look())
        self.thread = Thread(target=self.loop.run_until_complete, args=(self.server.run_here(),))
        self.thread.start()

    def close(self) -> None:
        """Ends the server, the desk and the loop."""
        self.server.should_exit = True
        self.thread.join()
        self.loop.run_until_complete(self.house.end())
        self.loop.close()
        self.socket.close()

    def held(self, tool: str = "query") -> str:
        """The id of a new ticket of alice's."""
        exchange = exchange_of(self.house.policy, tool_call(tool), principal_of("alice"))
        exchange.findings, exchange.shown = (
            (Finding("key", "high", "hold", "arguments:/[bold]"),),
            '{"masked":"[red]call"}',
        )
        opening = self.house.desk.ticket_for(exchange, Hold((("key", Approval()),)))
        return asyncio.run_coroutine_threadsafe(opening, self.loop).result(5).id

    def run(self, who: str, *words: str, groups: tuple[str, ...] = ("approvers",)) -> Result:
        """The command as this person runs it."""
        token = self.house.token(who, *groups)
        return RUN.invoke(app, list(words), env={"SOD_GATEWAY": self.url, "SOD_TOKEN": token})


@pytest.fixture
def office(tmp_path: Path) -> Iterator[Office]:
    """A console of its own."""
    built = Office(tmp_path)
    yield built
    built.close()


def test_an_approver_lists_shows_and_approves(office: Office) -> None:
    """The whole way, for people: each step exits with 0 and says what an approver must know, letter by letter."""
    assert "No held calls." in office.run("bob", "list").stdout
    ticket = office.held()
    listed = office.run("bob", "list")
    assert listed.exit_code == 0
    for word in (
        ticket,
        "pending",
        "https://login.example#alice",
        "tools: tools/call query",
        "key at arguments:/[bold] (high)",
        "may vote",
    ):
        assert word in listed.stdout
    shown = office.run("bob", "show", ticket)
    assert '"masked": "[red]call"' in shown.stdout
    for row in (("upstream", "tools"), ("method", "tools/call"), ("target", "query")):
        assert re.search(rf"{row[0]} +{row[1]}", shown.stdout)
    done = office.run("bob", "approve", ticket, "--reason", "change 4711")
    assert (done.exit_code, done.stdout) == (0, f"Ticket {ticket} is approved (approvals: 1).\n")
    assert "approve change 4711" in office.run("alice", "show", ticket, groups=("users",)).stdout


def test_scripts_get_json(office: Office) -> None:
    """With --json every command prints what the console said."""
    ticket = office.held()
    assert [one["id"] for one in json.loads(office.run("bob", "list", "--json").stdout)] == [ticket]
    digest = json.loads(office.run("bob", "show", ticket, "--json").stdout)["digest"]
    done = office.run("bob", "deny", ticket, "--digest", digest, "--json")
    assert json.loads(done.stdout)["state"] == "denied"
    assert json.loads(office.run("bob", "list", "--json").stdout) == []
    assert len(json.loads(office.run("bob", "list", "--state", "", "--json").stdout)) == 1


@pytest.mark.parametrize(
    ("who", "words", "says"),
    [
        ("alice", ["approve", "TICKET"], "You are behind this request yourself"),
        (
            "bob",
            ["approve", "TICKET", "--digest", "0" * 64],
            "not the digest of the ticket's call. Look at the ticket again.",
        ),
        ("bob", ["approve", "TICKET", "--digest", "x"], "HTTP 422"),
        ("bob", ["show", "t-0"], "There is no such ticket."),
        ("bob", ["deny", "t-0"], "There is no such ticket."),
    ],
)
def test_a_refusal_is_one_line_and_exit_status_1(office: Office, who: str, words: list[str], says: str) -> None:
    """What the gateway refuses is told on stderr with its reason; nothing changes."""
    ticket = office.held()
    done = office.run(who, *(ticket if word == "TICKET" else word for word in words))
    assert done.exit_code == 1
    assert done.stderr.startswith("refused: ")
    assert says in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert json.loads(office.run("bob", "show", ticket, "--json").stdout)["state"] == "pending"


@pytest.mark.parametrize("token", ["nonsense", "", "é", "a\nb"])
def test_a_bad_token_is_told(office: Office, token: str) -> None:
    """A token that is none ends in one line and exit status 1, whatever characters are in it."""
    done = RUN.invoke(app, ["list", "--gateway", office.url, "--token", token])
    assert done.exit_code == 1
    assert done.stderr.startswith("refused: ")


@pytest.mark.parametrize("gateway", [f"http://127.0.0.1:{free_port()}", "nowhere", "http://[", ""])
def test_no_console_is_told(gateway: str) -> None:
    """Where no console answers, one line says so and what to do."""
    done = RUN.invoke(app, ["list", "--gateway", gateway, "--token", "t"])
    assert done.exit_code == 1
    assert "No console answers at" in done.stderr
    assert "Give --gateway" in done.stderr


def test_a_call_cannot_write_on_the_approvers_terminal(office: Office) -> None:
    """What a terminal would obey, and what reorders a line, is shown by its number: a caller chooses these texts."""
    ticket = office.held("query\x1b[2K\u202e\r\x9bdrop")
    for words in (["list"], ["show", ticket], ["approve", ticket]):
        out = office.run("bob", *words).stdout
        assert not {"\x1b", "\u202e", "\x9b", "\r"} & set(out)
    listed = office.run("bob", "list", "--state", "").stdout
    for shown in ("\\u001b[2K", "\\u202e", "\\u009b", "\\u000d"):
        assert shown in listed
