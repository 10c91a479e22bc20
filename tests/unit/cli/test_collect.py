"""The collect command, against a real console on loopback."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from mcp_sod.cli.collect import app
from mcp_sod.wire.receipts import Handed, Receipt
from typer.testing import CliRunner, Result

from tests.unit.cli.test_approve import Office
from tests.unit.making import exchange_of, principal_of, tool_call

RUN = CliRunner(env={"COLUMNS": "300", "NO_COLOR": "1"})
RESULT: dict[str, Any] = {"content": [{"type": "text", "text": "two\n[red]lines\x1b[2K"}]}


class Counter(Office):
    """A console at which approvers collect what alice sent: the house has no viewers."""

    def left(self, receipt: str, outcome: str | None = None) -> str:
        """The receipt of a result of alice's."""
        exchange = exchange_of(self.house.policy, tool_call("export_[bold]"), principal_of("alice"))
        exchange.recipient = Handed(Receipt(receipt, "approver", 2**40), "s-1")
        body = (outcome or json.dumps({"result": RESULT})).encode()

        async def leave() -> None:
            await self.house.deliveries.expect(exchange, lambda: False)
            await self.house.deliveries.settle(receipt, body, asked_back=False)

        asyncio.run_coroutine_threadsafe(leave(), self.loop).result(5)
        return receipt

    def collect(self, who: str, *words: str, groups: tuple[str, ...] = ("approvers",)) -> Result:
        """The command as this person runs it."""
        known = {"SOD_GATEWAY": self.url, "SOD_TOKEN": self.house.token(who, *groups)}
        return RUN.invoke(app, list(words), env=known)


@pytest.fixture
def counter(tmp_path: Path) -> Iterator[Counter]:
    """A console of its own."""
    built = Counter(tmp_path)
    yield built
    built.close()


def test_a_viewer_lists_and_gets(counter: Counter) -> None:
    """What waits is listed letter by letter; the result's texts are printed, and cannot write on the terminal."""
    assert "Nothing waits for you" in counter.collect("bob", "list").stdout
    receipt = counter.left("r-0123456789abcdef")
    listed = counter.collect("bob", "list").stdout
    for word in (receipt, "kept", "https://login.example#alice", "tools: export_[bold]", "approver", "may collect"):
        assert word in listed
    assert "You are behind this call" in counter.collect("alice", "list", groups=("users",)).stdout
    got = counter.collect("bob", "get", receipt)
    assert (got.exit_code, got.stdout) == (0, "two\n[red]lines\\u001b[2K\n")


@pytest.mark.parametrize(
    ("outcome", "shown"),
    [
        ('{"result":{"content":[{"type":"text","text":"a"},{"type":"x"}]}}', '"type": "x"'),
        ('{"result":{"content":[]}}', '"content": []'),
        ('{"result":[1]}', "1"),
        ('{"error":{"code":1,"message":"why"}}', '"message": "why"'),
    ],
)
def test_what_is_not_text_alone_is_shown_whole(counter: Counter, outcome: str, shown: str) -> None:
    """Nothing of a result is left out."""
    assert shown in counter.collect("bob", "get", counter.left("r-0123456789abcdef", outcome)).stdout


def test_scripts_get_json_to_the_digit(counter: Counter) -> None:
    """With --json the numbers keep their digits."""
    receipt = counter.left("r-0123456789abcdef", '{"result":{"n":1.10000000000000000001}}')
    assert [one["receipt"] for one in json.loads(counter.collect("bob", "list", "--json").stdout)] == [receipt]
    got = counter.collect("bob", "get", receipt, "--json").stdout
    assert '"result":{"n":1.10000000000000000001}' in got
    assert json.loads(got)["receipt"] == receipt


def test_a_refusal_is_one_line_and_exit_status_1(counter: Counter) -> None:
    """What the gateway refuses is told on stderr with its reason, and the result stays."""
    receipt = counter.left("r-0123456789abcdef")
    for who, groups, says in (("alice", ("users",), "apart"), ("carol", ("users",), "goes to the role approver")):
        refused = counter.collect(who, "get", receipt, groups=groups)
        assert (refused.exit_code, refused.stdout, refused.stderr.count("\n")) == (1, "", 1)
        assert says in refused.stderr
    assert "There is no such receipt" in counter.collect("bob", "get", "r-1").stderr
    assert counter.collect("bob", "get", receipt).exit_code == 0
