"""The audit command."""

import asyncio
import json
import re
import shutil
from pathlib import Path

import pytest
from mcp_sod.audit.folder import FolderStore
from mcp_sod.audit.shipper import Shipper
from mcp_sod.audit.store import open_store
from mcp_sod.cli.audit import EVENTS, app
from mcp_sod.errors import Refusal
from mcp_sod.policy.load import load
from typer.testing import CliRunner

from tests.world.process import ROOT
from tests.world.records import make_log, open_journal

RUN = CliRunner()


@pytest.fixture
def arguments(tmp_path: Path) -> list[str]:
    """The options that name a store of three records and its key."""
    make_log(tmp_path / "state", FolderStore(tmp_path / "store"), [3])
    return [
        "--store",
        f"file:{tmp_path}/store",
        "--public-key",
        f"{tmp_path}/state/keys/audit.key.pub",
    ]


def drop_the_batch(tmp_path: Path) -> None:
    """Take the only batch away."""
    (batch,) = (tmp_path / "store").glob("records/v1/*/*/*.gz")
    batch.unlink()


def test_verify_says_that_all_is_well(arguments: list[str]) -> None:
    """An untouched store: exit status 0, how many records, and what the store guarantees."""
    done = RUN.invoke(app, ["verify", *arguments])
    assert done.exit_code == 0
    assert "3 records from 2026-01-01T00:00:00" in done.stdout
    assert "The store is tamper-evident, not write-once." in done.stdout
    assert "All is as it was written." in done.stdout


def test_verify_ends_with_what_to_keep(arguments: list[str], tmp_path: Path) -> None:
    """The last line gives gateway, size and root as options; given back, they tell that the end was cut off."""
    assert make_log(tmp_path / "state", FolderStore(tmp_path / "store"), [3])
    kept = RUN.invoke(app, ["verify", *arguments]).stdout.splitlines()[-1].partition(": ")[2].split()
    assert kept[0] == "--at-least"
    assert kept[1].startswith("gw-1:6:")
    assert RUN.invoke(app, ["verify", *arguments, *kept]).exit_code == 0
    max((tmp_path / "store").glob("records/v1/*/*/*.gz")).unlink()
    (tmp_path / "store/checkpoints/v1/src=gw-1/000000000006").unlink()
    assert RUN.invoke(app, ["verify", *arguments]).exit_code == 0
    cut = RUN.invoke(app, ["verify", *arguments, *kept])
    assert (cut.exit_code, cut.stdout.splitlines()[0][:10]) == (1, "truncated:")
    assert RUN.invoke(app, ["verify", *arguments, "--at-least", "many"]).exit_code == 2


def test_verify_can_be_told_that_the_gateway_runs(arguments: list[str], tmp_path: Path) -> None:
    """A newest batch without its checkpoint is a problem, unless the gateway runs; one checkpoint there must be."""
    make_log(tmp_path / "state", FolderStore(tmp_path / "store"), [3])
    (tmp_path / "store/checkpoints/v1/src=gw-1/000000000006").unlink()
    assert [RUN.invoke(app, ["verify", *arguments, *more]).exit_code for more in ([], ["--running"])] == [1, 0]
    (tmp_path / "store/checkpoints/v1/src=gw-1/000000000003").unlink()
    assert [RUN.invoke(app, ["verify", *arguments, *more]).exit_code for more in ([], ["--running"])] == [1, 1]


def test_verify_names_what_is_wrong(arguments: list[str], tmp_path: Path) -> None:
    """A problem: exit status 1, and one line with kind, object and sentence."""
    drop_the_batch(tmp_path)
    done = RUN.invoke(app, ["verify", *arguments])
    assert done.exit_code == 1
    assert done.stdout.splitlines()[0] == (
        "truncated: checkpoints/v1/src=gw-1/000000000003: gw-1: it speaks of 3 records, but there are 0."
    )


def test_verify_in_json(arguments: list[str], tmp_path: Path) -> None:
    """Scripts get the report as JSON, with the same exit status."""
    well = RUN.invoke(app, ["verify", "--json", *arguments])
    assert (well.exit_code, json.loads(well.stdout)["problems"]) == (0, [])
    drop_the_batch(tmp_path)
    wrong = RUN.invoke(app, ["verify", "--json", *arguments])
    assert (wrong.exit_code, json.loads(wrong.stdout)["problems"][0]["kind"]) == (1, "truncated")


@pytest.mark.parametrize(
    ("store", "key", "said"),
    [("file:x", "no.pub", "no.pub cannot be read"), ("ftp://x", "", "names no store"), ("file:x", "/dev/null", "key")],
)
def test_what_cannot_be_done_is_one_line(arguments: list[str], store: str, key: str, said: str) -> None:
    """A wrong store or key: exit status 2, one line on stderr with a hint, no traceback."""
    done = RUN.invoke(app, ["verify", "--store", store, "--public-key", key or arguments[3]])
    assert done.exit_code == 2
    assert done.stderr.startswith("error: ")
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_show_is_a_table(arguments: list[str]) -> None:
    """Records are shown in the order of their times, with who and what."""
    done = RUN.invoke(app, ["show", *arguments[:2]])
    assert done.exit_code == 0
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["time", "event", "who", "what", "ticket", "ref", "why"]
    assert [row.split()[:4] for row in rows] == [
        ["2026-01-01", f"00:00:0{second}", event, "alice"]
        for second, event in enumerate(["denied", "forwarded", "denied"])
    ]


@pytest.mark.parametrize(
    ("options", "seqs"),
    [
        (["--event", "denied"], [0, 2]),
        (["--ref", "r-1"], [1]),
        (["--last", "2"], [1, 2]),
        (["--event", "denied", "--last", "1"], [2]),
        (["--ticket", "none"], []),
        (["--who", "alice"], [0, 1, 2]),
        (["--who", "ALICE@example.com"], []),
        (["--since", "2026-01-01 00:00:01"], [1, 2]),
    ],
)
def test_show_chooses(arguments: list[str], options: list[str], seqs: list[int]) -> None:
    """The options choose records together; JSON gives each as it is."""
    done = RUN.invoke(app, ["show", "--json", *options, *arguments[:2]])
    assert [json.loads(line)["seq"] for line in done.stdout.splitlines()] == seqs


def test_the_policy_names_store_and_key(tmp_path: Path) -> None:
    """Without options, store and key are those of the policy; before the gateway's first start, a clear error."""
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    policy = load(tmp_path / "policies")
    options = ["--policy", str(tmp_path / "policies")]
    early = RUN.invoke(app, ["verify", *options])
    assert (early.exit_code, early.stderr.count("audit.key.pub cannot be read")) == (2, 1)
    store = open_store(policy.audit.store, base=policy.base, days=1)
    make_log(policy.state, store, [3], policy.gateway.name)
    assert RUN.invoke(app, ["verify", *options]).exit_code == 0
    assert len(RUN.invoke(app, ["show", "--json", *options]).stdout.splitlines()) == 3


@pytest.mark.parametrize("command", [[], ["verify"], ["show"]])
def test_help_has_an_example(command: list[str]) -> None:
    """Whoever asks for help sees a line to copy."""
    assert "Example: audit.py" in RUN.invoke(app, [*command, "--help"]).stdout


def test_show_knows_the_events(arguments: list[str]) -> None:
    """A misspelt event would look like an audit in which nothing happened: it is an error, with those there are."""
    done = RUN.invoke(app, ["show", "--event", "deny", *arguments[:2]])
    assert done.exit_code == 2
    said = " ".join(re.sub(r"[^\w ,.]", " ", done.output).split())
    assert f"deny is none of {', '.join(EVENTS)}." in said


def test_the_events_are_those_that_the_product_writes() -> None:
    """Every event in the sources is known to `show`, and the README names each."""
    sources = "\n".join(file.read_text() for file in (ROOT / "addons/mcp_sod").rglob("*.py"))
    written = set(re.findall(r'(?:write|note|_record|_note)\(\s*(?:back, )?"([a-z ]+)"', sources))
    written |= {kind.event for kind in Refusal.__subclasses__()}
    assert written == set(EVENTS)
    readme = (ROOT / "README.md").read_text()
    assert [event for event in EVENTS if f"`{event}`" not in readme.partition("## Reading the audit")[2]] == []


def test_show_says_what_was_revoked_and_keeps_to_its_lines(tmp_path: Path) -> None:
    """Of a revocation its kind and value; a reason of several lines stands on one."""
    store = FolderStore(tmp_path / "store")

    async def write() -> None:
        journal = open_journal(tmp_path / "state")
        await journal.write(
            "revoked",
            ref="x-0123456789abcdef",
            kind="person",
            value="bob@example.com",
            reason="left\n today " + "x" * 200,
        )
        await Shipper(journal, store).flush()
        await journal.close()

    asyncio.run(write())
    (row,) = RUN.invoke(app, ["show", "--store", f"file:{tmp_path}/store", "--policy", "-"]).stdout.splitlines()[1:]
    assert "person bob@example.com" in row
    assert row.rstrip().endswith("x-01234567  left today " + "x" * 200)
