"""Chapters 9 and 10: an auditor, who can only read, verifies the records; and what becomes of altering them."""

import gzip
import hashlib
import json
import re
import time
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from tests.story.approvals import Held
from tests.story.archives import LockedBucket
from tests.story.setting import Done, Setting
from tests.story.telling import Teller, equal, lacks, mentions

PATIENCE = 20  # seconds; batches leave every five
AMOUNT = re.compile(rb'(amount\\": ?)9500')
ACTS = ["held", "denied", "voted", "granted", "forwarded", "replied"]


@dataclass(frozen=True, slots=True)
class Forgery:
    """A batch with one byte changed: its place in the store, its bytes, and the number of the record changed."""

    key: str
    body: bytes
    seq: int


def auditor(setting: Setting, tell: Teller, held: Held) -> str:
    """The records are verified and read, then altered, which is found; gives what the store guarantees."""
    tell.chapter("An auditor verifies the records")
    records = _told(setting, held.ticket)
    _reads(tell, records)
    report = setting.audit("verify", "--running", "--json").json
    _verifies(setting, tell, held, report)
    tell.chapter("One altered byte")
    _copy(setting, tell, held)
    if isinstance(setting.archive, LockedBucket):
        _bucket(setting.archive, setting, tell, held)
    return str(report["guarantee"])


def _told(setting: Setting, ticket: str) -> list[dict[str, Any]]:
    """The records of a ticket, once the last of them has left the gateway."""
    deadline = time.monotonic() + PATIENCE
    while True:
        done = setting.audit("show", "--ticket", ticket, "--json")
        found = [json.loads(line) for line in done.out.splitlines()]
        if any(record["event"] == "replied" for record in found) or time.monotonic() > deadline:
            return found
        time.sleep(0.3)


def _reads(tell: Teller, records: list[dict[str, Any]]) -> None:
    events = [str(record["event"]) for record in records]
    runs = [(event, len(list(run))) for event, run in groupby(events)]
    voters = [record["principal"]["subject"] for record in records if record["event"] == "voted"]
    tell.step(
        "The auditor reads what became of the ticket: audit.py show --ticket …",
        " → ".join(f"{event} ({times})" if times > 1 else event for event, times in runs),
        equal("the acts, in their order", [event for event, _ in runs], ACTS),
        equal("refused votes", events.count("denied"), 4),
        equal("who voted", voters, ["paula"]),
    )


def _verifies(setting: Setting, tell: Teller, held: Held, report: dict[str, Any]) -> None:
    done = setting.audit("verify", "--running")
    tell.step(
        "The auditor verifies all of it, with the public key and the right to read: audit.py verify --running",
        f"{report['records']} records, {report['checkpoints']} signed checkpoints, no problem. {report['guarantee']}",
        equal("the exit status", done.status, 0),
        equal("problems", report["problems"], []),
        mentions("the verdict", done.said, "All is as it was written"),
    )
    everything = setting.audit("show", "--json").out
    tell.step(
        "Neither the secret nor any token is in the records; what was masked is masked there, too.",
        f"{len(everything.splitlines())} records searched",
        lacks("the records", everything, held.secret, "eyJ"),
        mentions("the records", everything, "[masked:secret]"),
    )


def _copy(setting: Setting, tell: Teller, held: Held) -> None:
    folder = setting.folder / "copy"
    setting.archive.copy(folder)
    forged = forge(folder, held.ticket)
    _exchange(folder, forged)
    done = setting.audit("verify", store=f"file:{folder}")
    tell.step(
        f"In a copy, someone makes 9500 into 1500 in record {forged.seq}, and the file's name fit its new bytes.",
        _problem(done),
        equal("the exit status of audit.py verify", done.status, 1),
        mentions("what is named", done.out, f"record {forged.seq} is not what was written"),
    )


def _bucket(bucket: LockedBucket, setting: Setting, tell: Teller, held: Held) -> None:
    folder = setting.folder / "download"
    bucket.copy(folder)
    forged = forge(folder, held.ticket)
    answers = {user: bucket.delete(user, forged.key) for user in ("writer", "admin")}
    tell.step(
        "In the bucket itself, the gateway's key tries to delete the batch, then the bucket's owner does.",
        f"gateway: {answers['writer']}; owner: {answers['admin']}",
        equal("the answers", answers, {"writer": "AccessDenied", "admin": "AccessDenied"}),
    )
    bucket.overwrite(forged.key, forged.body)
    done = setting.audit("verify", "--running")
    tell.step(
        "The gateway's key lays the altered batch over the true one, which stays beneath it.",
        _problem(done),
        equal("the exit status of audit.py verify", done.status, 1),
        mentions("what is named", done.out, f"shadowed: {forged.key}"),
        lacks("the true one is intact", done.out, "altered:", "missing:"),
    )


def _problem(done: Done) -> str:
    """The first line of what was said, with the digests in it cut short."""
    return re.sub(r"([0-9a-f]{8})[0-9a-f]{56}", r"\1…", (done.out or done.err).partition("\n")[0])


def forge(store: Path, ticket: str) -> Forgery:
    """The batch that holds the forwarded call, with one byte of that record changed: the amount's first digit."""
    for path in sorted(store.glob("records/v1/*/*/*")):
        lines = gzip.decompress(path.read_bytes()).splitlines(keepends=True)
        for number, line in enumerate(lines):
            record = json.loads(line)
            if (record["event"], record.get("ticket")) == ("forwarded", ticket):
                lines[number] = AMOUNT.sub(rb"\g<1>1500", line, count=1)
                assert sum(old != new for old, new in zip(line, lines[number], strict=True)) == 1
                body = gzip.compress(b"".join(lines), mtime=0)
                return Forgery(path.relative_to(store).as_posix(), body, record["seq"])
    raise AssertionError(f"no batch holds the forwarded call of {ticket}")


def _exchange(store: Path, forged: Forgery) -> None:
    """Puts the forgery in the true batch's place, under the name that fits its bytes."""
    true = store / forged.key
    span = true.name.rpartition("-")[0]
    true.unlink()
    true.with_name(f"{span}-{hashlib.sha256(forged.body).hexdigest()}.jsonl.gz").write_bytes(forged.body)
