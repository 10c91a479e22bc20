"""Verification: from read access and the public key alone, is every record there and as it was written?"""

from collections.abc import Callable, Sequence

from mcp_sod.audit.examination import Examination, Known
from mcp_sod.audit.layout import CHECKPOINTS, RECORDS, is_leftover
from mcp_sod.audit.note import PublicKey
from mcp_sod.audit.reader import sources
from mcp_sod.audit.report import End, Problem, Report
from mcp_sod.audit.store import ReadStore
from mcp_sod.errors import AuditError

type Progress = Callable[[int, int], None]

_MOST = 1000  # problems and strangers told one by one


def verify(
    store: ReadStore,
    public_key: str,
    progress: Progress = lambda _done, _all: None,
    *,
    running: bool = False,
    at_least: Sequence[End] = (),
) -> Report:
    """Read every version of every object, and return what is wrong.

    `public_key` holds the verifier keys of the gateways, one on a line. Memory grows with the number of batches, not
    of records. `progress` hears how many of how many batches are done. Every key's gateway must have a log; records
    that no checkpoint covers are a problem, but for the newest batch of a gateway that is `running` right now. A log
    that was cut off behind a checkpoint is whole in itself: only `at_least`, kept from an earlier report, tells.
    """
    keys = [PublicKey.parse(line) for line in public_key.splitlines() if line.strip()]
    if not keys:
        raise AuditError("There is no public key to verify with.", hint="Give the gateway's .pub file.")
    found, strangers = sources(store, running=running)
    problems: list[Problem] = []

    def tell(problem: Problem) -> None:
        if len(problems) <= _MOST:  # whoever attacks decides how many there are, not how much memory they take
            problems.append(problem)

    total, done = sum(len(source.batches) for source in found), iter(range(1, 2**63))
    known = Known(keys, running, at_least)
    logs = [Examination(store, source, known, tell, lambda: progress(next(done), total)) for source in found]
    for log in logs:
        log.check()
    expected = {key.name.removeprefix("mcp-sod/") for key in keys} | {end.gateway for end in at_least}
    for gateway in sorted(expected - {source.gateway for source in found} - {""}):
        tell(Problem("missing", RECORDS, f"{gateway}: there is nothing of it, although its key or size was given."))
    notes = [note for log in logs for note in log.notes]
    for key in strangers:
        if is_leftover(key) and (running or key.startswith(CHECKPOINTS)):
            notes.append(f"{key}: left by a put that did not end.")  # a batch's goes when its gateway is back
        else:
            tell(Problem("misplaced", key, "Not an object of any gateway."))
    unlocked = sum(problem.kind == "unlocked" for problem in problems)
    return Report(
        records=sum(log.records for log in logs),
        checkpoints=sum(log.checkpoints for log in logs),
        first_time=min((log.first_time for log in logs if log.records), default=""),
        last_time=max((log.last_time for log in logs), default=""),
        guarantee=f"not write-once: {unlocked} objects are not locked" if unlocked else store.guarantee,
        problems=tuple(problems[:_MOST]),
        notes=(
            *notes[:_MOST],
            *(["More problems are not listed."] if len(problems) > _MOST else []),
        ),
        ends=tuple(log.end for log in logs if log.end),
    )
