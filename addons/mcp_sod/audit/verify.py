"""Verification: from read access and the public key alone, is every record there and as it was written?"""

from collections.abc import Callable

from mcp_sod.audit.examination import Examination
from mcp_sod.audit.note import PublicKey
from mcp_sod.audit.reader import sources
from mcp_sod.audit.report import Problem, Report
from mcp_sod.audit.store import ReadStore
from mcp_sod.errors import AuditError

type Progress = Callable[[int, int], None]

_MOST = 1000  # problems and strangers told one by one


def verify(store: ReadStore, public_key: str, progress: Progress = lambda _done, _all: None) -> Report:
    """Read every version of every object, and return what is wrong.

    `public_key` holds the verifier keys of the gateways, one on a line. Memory grows with the number of batches, not
    of records. `progress` hears how many of how many batches are done.
    """
    keys = [PublicKey.parse(line) for line in public_key.splitlines() if line.strip()]
    if not keys:
        raise AuditError("There is no public key to verify with.", hint="Give the gateway's .pub file.")
    found, strangers = sources(store)
    problems: list[Problem] = []

    def tell(problem: Problem) -> None:
        if len(problems) <= _MOST:  # whoever attacks decides how many there are, not how much memory they take
            problems.append(problem)

    total, done = sum(len(source.batches) for source in found), iter(range(1, 2**63))
    logs = [Examination(store, source, keys, tell, lambda: progress(next(done), total)) for source in found]
    for log in logs:
        log.check()
    unlocked = sum(problem.kind == "unlocked" for problem in problems)
    return Report(
        records=sum(log.records for log in logs),
        checkpoints=sum(log.checkpoints for log in logs),
        first_time=min((log.first_time for log in logs if log.records), default=""),
        last_time=max((log.last_time for log in logs), default=""),
        guarantee=f"not write-once: {unlocked} objects are not locked" if unlocked else store.guarantee,
        problems=tuple(problems[:_MOST]),
        notes=(
            *(note for log in logs for note in log.notes),
            *(f"{key}: not an object of any gateway." for key in strangers[:_MOST]),
            *(["More problems are not listed."] if len(problems) > _MOST else []),
        ),
    )
