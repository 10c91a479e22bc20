"""Where the story plays: a bank, two identity providers, the gateway before them, and the records' archive."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from tests.story.archives import Archive, Kind, open_archive
from tests.story.caller import Seen, call
from tests.story.people import Person
from tests.world.bank import Bank
from tests.world.client import environment, proxy_environment
from tests.world.gateway import Gateway
from tests.world.issuer import Issuer
from tests.world.policies import default_policy, identity, with_store
from tests.world.process import ROOT

PARTNER = "https://login.partner.example"  # the other identity provider
HOLD = 5  # seconds that a held caller is kept waiting
SHELL: Final = {  # what everything inherits: nothing that would lead it elsewhere
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("AWS_", "SOD_")) and name not in proxy_environment(None)
}


@dataclass(frozen=True, slots=True)
class Done:
    """A command that has ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its output, parsed."""
        return json.loads(self.out)

    @property
    def said(self) -> str:
        """Everything it said, on one line."""
        return " ".join(f"{self.out} {self.err}".split())


@dataclass(frozen=True, slots=True)
class Setting:
    """Everything that runs, and what each player can do with it."""

    folder: Path
    bank: Bank
    issuer: Issuer
    partner: Issuer  # another identity provider that is believed
    gateway: Gateway
    archive: Archive

    @property
    def public_key(self) -> Path:
        """The auditor's own copy of the key that the gateway's checkpoints are verified with."""
        return self.folder / "gateway.pub"

    def token(self, who: Person) -> str:
        """A fresh token from the identity provider where this account is."""
        return who.token(self.partner if who.partners else self.issuer)

    def call(self, who: Person, tool: str, **arguments: Any) -> Seen:
        """One call of the bank through the gateway."""
        return call(self.bank.url, self.token(who), self.gateway.url, tool, arguments)

    def approve(self, who: Person, *words: str) -> Done:
        """`scripts/approve.py` with this person's own token."""
        return _run("approve.py", *words, env=self._console_for(who))

    def revoke(self, who: Person, *words: str) -> Done:
        """`scripts/revoke.py` with this person's own token."""
        return _run("revoke.py", *words, env=self._console_for(who))

    def audit(self, command: str, *words: str, store: str = "") -> Done:
        """`scripts/audit.py` with the auditor's read access, over the archive or another store."""
        key = ("--public-key", str(self.public_key))
        return _run("audit.py", command, "--store", store or self.archive.url,
                    *(key if command == "verify" else ()), *words, env={**self.archive.auditor})  # fmt: skip

    def decided_while_waiting(
        self, who: Person, approver: Person, decision: Literal["approve", "deny"], **arguments: Any
    ) -> tuple[str, Seen]:
        """Pays an invoice, and has an approver decide while the caller waits; gives the ticket and what was seen."""
        with self.waiting(who, approver, **arguments) as (ticket, waiting):
            if ticket:
                self.approve(approver, decision, ticket["id"], "--reason", "asked by phone")
            return ticket["id"] if ticket else "", waiting.result()

    @contextmanager
    def waiting(self, who: Person, approver: Person, **arguments: Any) -> Iterator[tuple[Any, Future[Seen]]]:
        """Pays an invoice; while its caller waits, gives the ticket as an approver has it in the list, or None."""
        with ThreadPoolExecutor(1) as callers:
            waiting = callers.submit(self.call, who, "pay_invoice", **arguments)
            pending: list[Any] = []
            while not pending and not waiting.done():
                pending = self.approve(approver, "list", "--json").json
            yield pending[0] if pending else None, waiting

    def _console_for(self, who: Person) -> dict[str, str]:
        return {"SOD_TOKEN": self.token(who), "SOD_GATEWAY": self.gateway.console_url}


@contextmanager
def open_setting(folder: Path, kind: Kind, **changed: Any) -> Iterator[Setting]:
    """Starts everything in this folder; `changed` replaces files of the default policy, as in `default_policy`."""
    with ExitStack() as stack:
        stack.enter_context(environment({name: None for name in os.environ if name not in SHELL}))
        archive = stack.enter_context(open_archive(kind, folder))
        issuer = Issuer(folder / "issuer")
        partner = Issuer(folder / "partner", url=PARTNER)
        bank = stack.enter_context(Bank(folder / "bank"))
        own = {"hold": f"{HOLD}s", "audit": with_store(archive.url), "identity": believed(issuer, partner)}
        policy = default_policy(issuer, bank.url, **{**own, **changed})
        env = {**proxy_environment(None), **archive.writer}
        gateway = stack.enter_context(Gateway(folder / "gateway", policy, env=env))
        setting = Setting(folder, bank, issuer, partner, gateway, archive)
        shutil.copy(gateway.state / "keys" / "audit.key.pub", setting.public_key)
        yield setting


def believed(*issuers: Issuer, person: Sequence[str] = ("email", "employee_id?")) -> dict[str, Any]:
    """The identity section that believes these issuers; `person` names the claims that tell a person."""
    section = identity(*issuers)
    for issuer in section["identity"]:
        issuer["claims"]["person"] = list(person)
    return section


def _run(script: str, *words: str, env: dict[str, str]) -> Done:
    command = [sys.executable, str(ROOT / "scripts" / script), *words]
    variables = {**SHELL, "COLUMNS": "200", **env}
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)
