"""Where the story plays: a bank, an identity provider, the gateway before them, and the records' archive."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
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
from tests.world.policies import default_policy, with_store
from tests.world.process import ROOT

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
    gateway: Gateway
    archive: Archive

    @property
    def public_key(self) -> Path:
        """The auditor's own copy of the key that the gateway's checkpoints are verified with."""
        return self.folder / "gateway.pub"

    def call(self, who: Person, tool: str, **arguments: Any) -> Seen:
        """One call of the bank through the gateway."""
        return call(self.bank.url, who.token(self.issuer), self.gateway.url, tool, arguments)

    def approve(self, who: Person, *words: str) -> Done:
        """`scripts/approve.py` with this person's own token."""
        token = who.token(self.issuer)
        return _run("approve.py", *words, env={"SOD_TOKEN": token, "SOD_GATEWAY": self.gateway.console_url})

    def audit(self, command: str, *words: str, store: str = "") -> Done:
        """`scripts/audit.py` with the auditor's read access, over the archive or another store."""
        key = ("--public-key", str(self.public_key))
        return _run("audit.py", command, "--store", store or self.archive.url,
                    *(key if command == "verify" else ()), *words, env={**self.archive.auditor})  # fmt: skip

    def decided_while_waiting(
        self, who: Person, approver: Person, decision: Literal["approve", "deny"], **arguments: Any
    ) -> tuple[str, Seen]:
        """Pays an invoice, and has an approver decide while the caller waits; gives the ticket and what was seen."""
        with ThreadPoolExecutor(1) as callers:
            waiting = callers.submit(self.call, who, "pay_invoice", **arguments)
            pending: list[Any] = []
            while not pending and not waiting.done():
                pending = self.approve(approver, "list", "--json").json
            if pending:
                self.approve(approver, decision, pending[0]["id"], "--reason", "asked by phone")
            return pending[0]["id"] if pending else "", waiting.result()


@contextmanager
def open_setting(folder: Path, kind: Kind, **changed: Any) -> Iterator[Setting]:
    """Starts everything in this folder; `changed` replaces files of the default policy, as in `default_policy`."""
    with ExitStack() as stack:
        stack.enter_context(environment({name: None for name in os.environ if name not in SHELL}))
        archive = stack.enter_context(open_archive(kind, folder))
        issuer = Issuer(folder / "issuer")
        bank = stack.enter_context(Bank(folder / "bank"))
        policy = default_policy(issuer, bank.url, **{"hold": f"{HOLD}s", "audit": with_store(archive.url), **changed})
        env = {**proxy_environment(None), **archive.writer}
        gateway = stack.enter_context(Gateway(folder / "gateway", policy, env=env))
        setting = Setting(folder, bank, issuer, gateway, archive)
        shutil.copy(gateway.state / "keys" / "audit.key.pub", setting.public_key)
        yield setting


def _run(script: str, *words: str, env: dict[str, str]) -> Done:
    command = [sys.executable, str(ROOT / "scripts" / script), *words]
    variables = {**SHELL, "COLUMNS": "200", **env}
    done = subprocess.run(command, env=variables, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    return Done(done.returncode, done.stdout, done.stderr)
