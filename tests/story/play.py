"""The story from its first chapter to its last, and what is said around it."""

import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from tests.story.accounts import one_human_two_accounts, security_revokes
from tests.story.approvals import one_who_may, secret_in_a_call, those_who_may_not
from tests.story.archives import Kind
from tests.story.identities import offboarded_contractor, over_broad_job
from tests.story.possession import stolen_token
from tests.story.records import auditor
from tests.story.replies import two_readers
from tests.story.setting import Setting, open_setting
from tests.story.staying import stay
from tests.story.telling import StoryError, Teller


def play(folder: Path, kind: Kind, tell: Teller, *, staying: bool = False, **changed: Any) -> bool:
    """Starts everything, tells the story and clears up; gives whether every check held.

    Args:
        folder: Where everything is kept.
        kind: Which store the records go to.
        tell: Who tells it.
        staying: Leaves all running after the story until Ctrl-C or SIGTERM.
        changed: Replaces files of the default policy, as in `default_policy`.
    """
    began = time.monotonic()
    with ExitStack() as stack:
        with tell.console.status("Starting a bank, an identity provider, a store and the gateway…"):
            setting = stack.enter_context(open_setting(folder, kind, **changed))
        _introduce(setting, tell)
        try:
            with tell.console.status("…"):
                guarantee = _chapters(setting, tell)
        except StoryError:
            tell.line(f"\nThe story stops here. The gateway's last words:\n{setting.gateway.log[-2000:]}", "red")
            return False
        _conclude(setting, tell, guarantee, time.monotonic() - began)
        if staying:
            stay(setting, tell)
    return True


def _introduce(setting: Setting, tell: Teller) -> None:
    tell.line("mcp-sod: four duties that nobody holds two of", "bold")
    tell.line(f"bank      {setting.bank.url}  an MCP server, built with the official SDK, over SQLite")
    tell.line(f"gateway   {setting.gateway.url}  mitmdump -s addons/sod.py, with the policies of this checkout")
    tell.line(f"console   {setting.gateway.console_url}  where approvers' commands go")
    tell.line(f"records   {setting.archive.name}")
    tell.line("clients   the official SDK's, with HTTP_PROXY set and nothing else changed")


def _chapters(setting: Setting, tell: Teller) -> str:
    offboarded_contractor(setting, tell)
    over_broad_job(setting, tell)
    held = secret_in_a_call(setting, tell)
    those_who_may_not(setting, tell, held)
    one_who_may(setting, tell, held)
    one_human_two_accounts(setting, tell)
    security_revokes(setting, tell)
    two_readers(setting, tell)
    stolen_token(setting, tell)
    return auditor(setting, tell, held)


def _conclude(setting: Setting, tell: Teller, guarantee: str, seconds: float) -> None:
    tell.line()
    tell.line(f"All is well: {tell.steps} steps, {tell.checks} checks, {seconds:.1f} s.", "bold green")
    tell.line(f"Store: {setting.archive.name}")
    tell.line(f"Guarantee: {guarantee}")
    tell.line(f"Which means: {setting.archive.why}")
