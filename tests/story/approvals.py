"""Chapters 3 to 5: a call is held, those who may not approve it cannot, and who may can, once."""

import secrets
import string
from dataclasses import dataclass
from typing import Any

from tests.story.caller import Seen
from tests.story.identities import sentence
from tests.story.people import ALICE, ALICE_ADMIN, APPROVE_BOT, PAULA, VICTOR, Person
from tests.story.setting import HOLD, Setting
from tests.story.telling import Check, Teller, equal, lacks, mentions

IBAN = "DE89370400440532013000"


@dataclass(frozen=True, slots=True)
class Held:
    """The call that the story is about: what it sends, the secret in it, and the ticket it got."""

    arguments: dict[str, Any]
    secret: str
    ticket: str


def fresh_secret() -> str:
    """A cloud key that was never anybody's."""
    return "AKIA" + "".join(secrets.choice(string.ascii_uppercase + "234567") for _ in range(16))


def payment(invoice: str, secret: str, amount: int = 9500) -> dict[str, Any]:
    """The arguments of a payment whose note carries a secret."""
    return {"invoice_id": invoice, "amount": amount, "iban": IBAN, "note": f"deploy key for the supplier: {secret}"}


def paid(setting: Setting, invoice: str) -> int:
    """How often the bank has paid this invoice, by its own database."""
    return len(setting.bank.ledger.payments(invoice))


def secret_in_a_call(setting: Setting, tell: Teller) -> Held:
    """A call with a production secret in it waits for approval, and its caller is told."""
    tell.chapter("A call carries a production secret")
    secret = fresh_secret()
    arguments = payment("INV-7", secret)
    before, seen = len(setting.bank.calls()), setting.call(ALICE, "pay_invoice", **arguments)
    tell.step(
        f"Alice pays an invoice; its note holds a cloud key. She is kept waiting for {HOLD} s, then told.",
        sentence(seen.text),
        equal("it is held", (seen.refused, seen.code), (True, "held")),
        mentions("the ticket is named", seen.text, seen.ticket or "a ticket"),
        lacks("the answer repeats no secret", seen.text, secret),
    )
    tell.step(
        "Nothing of it reached the bank.",
        f"{paid(setting, 'INV-7')} payments",
        equal("calls at the bank", len(setting.bank.calls()), before),
        equal("payments", paid(setting, "INV-7"), 0),
    )
    return Held(arguments, secret, seen.ticket)


def those_who_may_not(setting: Setting, tell: Teller, held: Held) -> None:
    """The requester, under either account, a machine, and a person without the role are each refused."""
    tell.chapter("Who cannot approve it")
    digest = setting.approve(ALICE, "show", held.ticket, "--json").json["digest"]
    cases: list[tuple[Person, str, str]] = [
        (ALICE, "Alice approves her own call", "You are behind this request yourself"),
        (ALICE_ADMIN, "Alice tries her second account, which is an approver", "You are behind this request yourself"),
        (APPROVE_BOT, "approve-bot, a machine in the approvers' group, tries", "Machines do not vote"),
        (VICTOR, "Victor, an analyst without the role, tries", "needs the role approver"),
    ]
    for who, what, reason in cases:
        done = setting.approve(who, "approve", held.ticket, "--digest", digest)
        tell.step(
            f"{what}: approve.py approve {held.ticket} --digest …",
            f"exit status {done.status}, {done.said}",
            equal("the exit status", done.status, 1),
            mentions("the reason", done.err, reason),
        )
    ticket = setting.approve(ALICE, "show", held.ticket, "--json").json
    seen = f"{ticket['state']}, {ticket['approvals']} approvals"
    tell.step("The ticket is as it was.", seen, equal("it", seen, "pending, 0 approvals"))


def one_who_may(setting: Setting, tell: Teller, held: Held) -> None:
    """An approver looks and agrees; exactly that call goes through exactly once."""
    tell.chapter("An approver agrees, and it goes through once")
    _looks_and_agrees(setting, tell, held)
    ticket, seen = setting.decided_while_waiting(ALICE, PAULA, "deny", **payment("INV-7", held.secret, 9501))
    tell.step(
        "Alice sends 9501 instead of 9500. That is another call: held anew; Paula denies it.",
        sentence(seen.text),
        *_anew(held, ticket, seen),
        equal("payments", paid(setting, "INV-7"), 0),
    )
    seen = setting.call(ALICE, "pay_invoice", **held.arguments)
    tell.step(
        "Alice sends the same call again.",
        f"{paid(setting, 'INV-7')} payment in the bank's database: {seen.text if seen.refused else seen.structured}",
        equal("it is let through", seen.refused, expected=False),
        equal("payments", paid(setting, "INV-7"), 1),
    )
    ticket, seen = setting.decided_while_waiting(ALICE, PAULA, "deny", **held.arguments)
    tell.step(
        "And once more: the approval is used up. Held anew; Paula denies it.",
        sentence(seen.text),
        *_anew(held, ticket, seen),
        equal("payments", paid(setting, "INV-7"), 1),
    )
    _while_she_waits(setting, tell)


def _looks_and_agrees(setting: Setting, tell: Teller, held: Held) -> None:
    listed = setting.approve(PAULA, "list", "--json").json
    tell.step(
        "Paula asks what waits: approve.py list",
        f"{len(listed)} held: {held.ticket}, pay_invoice by alice, {listed[0]['findings'][0] if listed else ''}",
        equal("what she may vote on", [(one["id"], one["may_vote"]) for one in listed], [(held.ticket, True)]),
    )
    shown = setting.approve(PAULA, "show", held.ticket)
    tell.step(
        f"She looks at the call: approve.py show {held.ticket}",
        "the note reads “deploy key for the supplier: [masked:secret]”",
        lacks("the secret is not shown", shown.said, held.secret),
        mentions("the rest is", shown.said, "INV-7", "9500", IBAN, "supplier: [masked:secret]", "alice"),
    )
    done = setting.approve(PAULA, "approve", held.ticket, "--reason", "the key is revoked already")
    tell.step(
        f"She agrees: approve.py approve {held.ticket} --reason …",
        done.said,
        equal("the exit status", done.status, 0),
        mentions("the answer", done.out, f"{held.ticket} is approved"),
    )


def _anew(held: Held, ticket: str, seen: Seen) -> tuple[Check, Check]:
    """Another ticket was opened, and its call refused."""
    other = ticket not in {"", held.ticket}
    return equal("there is another ticket", other, expected=True), equal("its call", seen.code, "denied")


def _while_she_waits(setting: Setting, tell: Teller) -> None:
    ticket, seen = setting.decided_while_waiting(ALICE, PAULA, "approve", **payment("INV-8", fresh_secret()))
    tell.step(
        "Alice pays another invoice, and this time Paula agrees while Alice still waits: it goes through by itself.",
        f"{ticket}: {seen.text if seen.refused else seen.structured}",
        equal("it is let through", seen.refused, expected=False),
        equal("payments", paid(setting, "INV-8"), 1),
    )
