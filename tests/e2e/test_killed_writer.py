"""A process that is killed at any moment loses no record that it acknowledged."""

import random
import subprocess
import sys
import time
from pathlib import Path

from mcp_sod.audit.folder import FolderStore
from mcp_sod.audit.reader import records, sources
from mcp_sod.audit.verify import verify

from tests.world.process import ROOT
from tests.world.records import make_log

ROUNDS = 20


def test_every_acknowledged_record_outlives_kill_9(tmp_path: Path) -> None:
    """Killed at random moments, while writing, freezing and shipping: one chain, nothing acknowledged missing."""
    state, store = tmp_path / "state", FolderStore(tmp_path / "store")
    acknowledged: set[int] = set()
    for _ in range(ROUNDS):
        acknowledged |= run_and_kill(state, tmp_path / "store")
    key = make_log(state, store, [1])  # recovers what the last one left, and ships it
    report = verify(store, key)
    assert report.ok, report.problems
    (source,) = sources(store)[0]
    seqs = [record["seq"] for record in records(store, source)]
    assert seqs == list(range(len(seqs)))
    assert acknowledged <= set(seqs)
    assert len(acknowledged) > ROUNDS
    assert len(source.batches) > ROUNDS, "it was never killed while shipping"


def run_and_kill(state: Path, store: Path) -> set[int]:
    """Starts a writer, kills it after its first record and a random while, and gives what it acknowledged."""
    command = [sys.executable, "-m", "tests.world.writer", str(state), str(store)]
    env = {"PYTHONPATH": f"{ROOT}:{ROOT / 'addons'}"}
    with subprocess.Popen(command, cwd=ROOT, env=env, stdout=subprocess.PIPE) as writer:
        assert writer.stdout
        first = writer.stdout.readline()
        time.sleep(random.uniform(0, 0.2))  # noqa: S311 (any moment will do)
        writer.kill()
        *whole, _torn = (first + writer.stdout.read()).split(b"\n")
    assert whole, "the writer ended before its first record"
    return {int(line) for line in whole}
