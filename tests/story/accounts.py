"""Chapter 6: one human with two accounts, each at another identity provider, is one person, and is revoked as one."""

import time
from typing import Any

from tests.story.approvals import fresh_secret, paid, payment
from tests.story.caller import Seen
from tests.story.identities import sentence
from tests.story.people import DANA, DANA_ELSEWHERE, OLGA, PAULA
from tests.story.setting import Setting
from tests.story.telling import Teller, equal, mentions

NUMBER = DANA.claims["employee_id"]


def one_human_two_accounts(setting: Setting, tell: Teller) -> None:
    """What one account sends the other cannot approve; another person can."""
    tell.chapter("One human, two accounts")
    arguments = payment("INV-9", fresh_secret())
    with setting.waiting(DANA, DANA_ELSEWHERE, **arguments) as (ticket, waiting):
        _tries_the_other(setting, tell, ticket or {})
        done = setting.approve(PAULA, "approve", str((ticket or {}).get("id")), "--reason", "asked by phone")
        seen = waiting.result()
    if seen.code == "held":  # on a slow machine she was told before Paula agreed
        seen = setting.call(DANA, "pay_invoice", **arguments)
    _another_person(setting, tell, done.said, seen)


def security_revokes(setting: Setting, tell: Teller) -> None:
    """Whoever is revoked is out within a second, with every account, whatever the tokens say."""
    done = setting.revoke(OLGA, "person", NUMBER, "--reason", "tried to approve her own payment")
    began = time.monotonic()
    first = setting.call(DANA, "list_customers")
    took = time.monotonic() - began
    seen = [first, setting.call(DANA_ELSEWHERE, "list_customers")]
    tell.step(
        f"Olga of security revokes her: revoke.py person {NUMBER}. Her next call is refused, from either account.",
        f"{done.said} After {took:.2f} s: {sentence(first.text)}",
        equal("the exit status", done.status, 0),
        equal("her next calls are refused", [(one.refused, one.code) for one in seen], [(True, "revoked")] * 2),
        equal("within a second", took < 1, expected=True),
    )


def _tries_the_other(setting: Setting, tell: Teller, ticket: dict[str, Any]) -> None:
    words = (str(ticket.get("id")), "--digest", str(ticket.get("digest")))
    done = setting.approve(DANA_ELSEWHERE, "approve", *words)
    tell.step(
        f"Dana pays an invoice. At a partner's identity provider she is {DANA_ELSEWHERE.name}, an approver, with "
        "another e-mail address but the same employee number. She tries to approve it as that.",
        f"exit status {done.status}, {done.said}",
        equal("the list says she may not", ticket.get("may_vote"), expected=False),
        equal("the exit status", done.status, 1),
        mentions("the reason", done.err, "You are behind this request yourself (by e-1701)"),
        equal("payments", paid(setting, "INV-9"), 0),
    )


def _another_person(setting: Setting, tell: Teller, said: str, seen: Seen) -> None:
    tell.step(
        "Paula, who is someone else, approves it, and Dana's call goes through.",
        f"{said} {seen.text if seen.refused else seen.structured}",
        mentions("the answer", said, "is approved"),
        equal("it is let through", seen.refused, expected=False),
        equal("payments", paid(setting, "INV-9"), 1),
    )
