"""After the story, with --stay: everything keeps running, and here is how to try it by hand."""

import json
import shlex
from contextlib import suppress
from threading import Event

from tests.story.approvals import fresh_secret, payment
from tests.story.archives import LockedBucket
from tests.story.people import ALICE, CARL, PAULA, STELLA
from tests.story.setting import Setting
from tests.story.telling import Teller
from tests.world.client import call_body, call_headers

PLAYERS = {"ALICE": ALICE, "PAULA": PAULA, "STELLA": STELLA, "CARL": CARL}


def stay(setting: Setting, tell: Teller) -> None:
    """Prints tokens and commands, and waits for Ctrl-C or SIGTERM."""
    tokens = {name: who.token(setting.issuer) for name, who in PLAYERS.items()}
    settings = {"GATEWAY": setting.gateway.url, "BANK": setting.bank.url, "SOD_GATEWAY": setting.gateway.console_url}
    tell.line()
    tell.line("Everything keeps running. Paste this into another terminal, in this folder:", "bold")
    for name, value in {**settings, **tokens}.items():
        _command(tell, f"export {name}={shlex.quote(value)}")
    for title, command in commands(setting):
        if title:
            tell.line(f"# {title}", "dim")
        _command(tell, command)
    tell.line()
    tell.line("Tokens are good for 12 hours (CARL's never was). Ctrl-C ends everything and removes it.", "bold")
    with suppress(KeyboardInterrupt):
        Event().wait()


def commands(setting: Setting) -> list[tuple[str, str]]:
    """What to try, each with a title; one without belongs to the one before it."""
    python = "HTTP_PROXY=$GATEWAY SOD_TOKEN={} .venv/bin/python -m tests.story.caller $BANK {} {}"
    held = shlex.quote(json.dumps(payment("INV-9", fresh_secret())))
    audit = f"scripts/audit.py {{}} --store {setting.archive.url}"
    reader = "".join(f"{name}={shlex.quote(value)} " for name, value in setting.archive.auditor.items())
    return [
        ("a viewer's reply, masked", python.format("$ALICE", "get_customer", "'{\"id\": 1}'")),
        ("a data steward's, raw", python.format("$STELLA", "get_customer", "'{\"id\": 1}'")),
        ("an expired token, on the wire", _curl("$CARL")),
        ("a call that is held; send it again once it is approved", python.format("$ALICE", "pay_invoice", held)),
        ("the approver's side", "SOD_TOKEN=$PAULA scripts/approve.py list"),
        ("", "SOD_TOKEN=$PAULA scripts/approve.py show TICKET"),
        ("", "SOD_TOKEN=$PAULA scripts/approve.py approve TICKET --reason 'I know why'"),
        ("its requester cannot", "SOD_TOKEN=$ALICE scripts/approve.py approve TICKET"),
        ("the auditor's side", f"{reader}{audit.format('show')} --last 20"),
        (_verdict(setting), f"{reader}{audit.format('verify')} --public-key {setting.public_key} --running"),
    ]


def _verdict(setting: Setting) -> str:
    if isinstance(setting.archive, LockedBucket):
        return "this names the batch that the story laid over a true one: nobody can take it away again"
    return "every record, verified"


def _curl(token: str) -> str:
    headers = {**call_headers("get_customer"), "Authorization": f"Bearer {token}"}
    words = " ".join(f'-H "{name}: {value}"' for name, value in headers.items())
    body = shlex.quote(json.dumps(call_body("get_customer", {"id": 1})))
    return f'curl -i --noproxy "" --proxy $GATEWAY $BANK {words} -d {body}'


def _command(tell: Teller, command: str) -> None:
    """Prints a command whole, so that it can be copied."""
    tell.console.print(command, style="cyan", soft_wrap=True, markup=False, highlight=False)
