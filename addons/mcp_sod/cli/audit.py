"""`audit`: verify and show the records, from read access to the store and the gateway's public key."""

import heapq
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from mcp_sod.audit.keys import public_path
from mcp_sod.audit.reader import records, sources
from mcp_sod.audit.report import End, Report
from mcp_sod.audit.store import Store, open_store
from mcp_sod.audit.verify import verify as verify_store
from mcp_sod.errors import AuditError, SodError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Verify and read the audit records.\n\nExample: audit.py verify --policy policies",
)

StoreUrl = Annotated[str, typer.Option("--store", help="file:PATH or s3://bucket/prefix; without it, the policy's.")]
PolicyFolder = Annotated[Path, typer.Option("--policy", help="The policy folder that names store and key.")]
PublicKey = Annotated[
    list[Path] | None,
    typer.Option("--public-key", help="A gateway's .pub file; once for each gateway. Without it, the policy's."),
]
Running = Annotated[
    bool, typer.Option("--running", help="The gateway runs right now: its newest batch may lack its checkpoint.")
]
AtLeast = Annotated[
    list[str] | None,
    typer.Option(help="[GATEWAY:]SIZE[:ROOT], as an earlier run printed it: a shorter or other log is a problem."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON for scripts.")]


@app.command()
def verify(
    store: StoreUrl = "",
    public_key: PublicKey = None,
    policy: PolicyFolder = Path("policies"),
    running: Running = False,
    at_least: AtLeast = None,
    as_json: AsJson = False,  # typer makes an option of it
) -> None:
    """Check that every record is there, as it was written; exit status 1 if anything is wrong.

    Example: audit.py verify --store s3://audit/gw --public-key gw-1.pub
    """
    with _plainly():
        opened, keys = _open(store, policy, public_key)
        known = [End.parse(text) for text in at_least or ()]
        with _progress() as progress:
            report = verify_store(opened, keys, progress, running=running, at_least=known)
    typer.echo(json.dumps(asdict(report), indent=2)) if as_json else _tell(report)
    raise typer.Exit(0 if report.ok else 1)


_SHORT = 10  # characters of a reference; as good as all of them, since --ref takes a beginning
_WIDE = 1000  # columns where nobody reads along, so that a record is a line
EVENTS = (  # what records tell of
    "started", "stopped", "policy changed", "policy refused", "rejected", "denied", "held", "voted", "granted",
    "cancelled", "expired", "forwarded", "replied", "withheld", "delivered", "lost", "signed on", "revoked",
    "revocation lifted",
)  # fmt: skip


def _known_event(event: str) -> str:
    if event and event not in EVENTS:
        raise typer.BadParameter(f"{event} is none of {', '.join(EVENTS)}.")
    return event


@app.command()
def show(
    store: StoreUrl = "",
    policy: PolicyFolder = Path("policies"),
    event: Annotated[str, typer.Option(help="Only this event, such as denied.", callback=_known_event)] = "",
    ref: Annotated[str, typer.Option(help="Only the exchange with this reference, or its beginning.")] = "",
    who: Annotated[str, typer.Option(help="Only whose subject or person key this is.")] = "",
    since: Annotated[str, typer.Option(help="Only from this time on (UTC), such as 2026-11-01T12:30.")] = "",
    ticket: Annotated[str, typer.Option(help="Only what belongs to this ticket.")] = "",
    last: Annotated[int, typer.Option(min=0, help="Only the last N; 0 shows all.")] = 0,
    as_json: AsJson = False,  # typer makes an option of it
) -> None:
    """Show the records in the order of their times; they are shown as found, so verify them first.

    Example: audit.py show --event denied --last 20
    """
    wanted = {name: value for name, value in (("event", event), ("ticket", ticket)) if value}
    with _plainly():
        opened, _ = _open(store, policy, [])
        found, _ = sources(opened)
        merged = heapq.merge(*(records(opened, source) for source in found), key=lambda each: str(each["time"]))
        chosen = (each for each in merged if wanted.items() <= each.items() and _fits(each, ref, who, since))
        rows = deque(chosen, maxlen=last) if last else chosen
        if as_json:
            for row in rows:
                typer.echo(json.dumps(row, ensure_ascii=False, sort_keys=True))
        else:
            _table(rows)


def _fits(row: Mapping[str, object], ref: str, who: str, since: str) -> bool:
    found = row.get("principal")
    principal = found if isinstance(found, dict) else {"subject": found}
    person = principal.get("person")
    mine = not who or who == principal.get("subject") or (isinstance(person, list) and who.casefold() in person)
    return mine and str(row.get("ref") or "").startswith(ref) and str(row.get("time", "")) >= since.replace(" ", "T")


def _open(url: str, policy_folder: Path, public_key: list[Path] | None) -> tuple[Store, str]:
    """Return the store and the text of the keys; a policy is needed only for what was not given."""
    if url and public_key is not None:
        return open_store(url, base=Path.cwd(), days=0), _read(public_key)
    from mcp_sod.policy.load import load  # noqa: PLC0415 (an auditor with a URL and a key needs no policy)

    policy = load(policy_folder)
    keys = _read(public_key if public_key is not None else [public_path(policy.state / "keys" / "audit.key")])
    if url:
        return open_store(url, base=Path.cwd(), days=0), keys
    retention = policy.audit.retention
    return open_store(policy.audit.store, base=policy.base, days=retention.days, mode=retention.mode), keys


def _read(paths: list[Path]) -> str:
    keys: list[str] = []
    for path in paths:
        try:
            keys.append(path.read_text())
        except (OSError, ValueError):
            raise AuditError(f"The public key {path} cannot be read.", hint="Give --public-key FILE.") from None
    return "\n".join(keys)


def _tell(report: Report) -> None:
    console = Console(soft_wrap=True, highlight=False)
    for problem in report.problems:
        console.print(_text(f"{problem.kind}: {problem.where}: {problem.sentence}", "red"))
    for note in report.notes:
        console.print(_text(f"note: {note}", "yellow"))
    if report.records:
        console.print(_text(f"{report.records} records from {report.first_time} to {report.last_time}."))
    console.print(_text(f"{report.checkpoints} checkpoints. The store is {report.guarantee}."))
    verdict = f"{len(report.problems)} problems." if report.problems else "All is as it was written."
    console.print(_text(verdict, "bold red" if report.problems else "bold green"))
    if report.ok and report.ends:
        console.print(_text(f"Keep this for the next time: {' '.join(f'--at-least {end}' for end in report.ends)}"))


def _table(rows: Any) -> None:
    table = Table("time", "event", "who", "what", "ticket", "ref", "why", box=None, pad_edge=False)
    for row in rows:
        who = row.get("principal") or {}
        what = (row.get("upstream"), row.get("method"), row.get("target"), *_revoked(row))
        why = row.get("reason") or ", ".join(map(str, row.get("findings") or ()))
        cells = (
            str(row.get("time", ""))[:19].replace("T", " "),
            row.get("event"),
            who.get("subject") if isinstance(who, dict) else who,
            " ".join(str(part) for part in what if part),
            row.get("ticket"),
            str(row.get("ref") or "")[:_SHORT],
            " ".join(str(why).split()),
        )
        table.add_row(*(_text(str(cell or "")) for cell in cells))
    Console(width=None if sys.stdout.isatty() else _WIDE, soft_wrap=not sys.stdout.isatty()).print(table)


def _revoked(row: Mapping[str, object]) -> tuple[object, object]:
    named = str(row.get("event")) in ("revoked", "revocation lifted")
    return (row.get("kind"), row.get("value")) if named else (None, None)


def _text(text: str, style: str = "") -> Text:
    """Return text for the terminal, without what could steer it: records hold what strangers sent."""
    return Text("".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in text), style)


@contextmanager
def _progress() -> Iterator[Callable[[int, int], None]]:
    """Give a progress bar on stderr, if someone is watching."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        task = bar.add_task("Verifying batches", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


@contextmanager
def _plainly() -> Iterator[None]:
    """End with one clear line and exit status 2 where something cannot be done."""
    try:
        yield
    except SodError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2) from None
