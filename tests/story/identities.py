"""Chapters 1 and 2: who is let in at all, and who holds too much."""

import re

from tests.story.caller import call
from tests.story.people import CARL, DEPLOY_BOT, MALLORY
from tests.story.setting import Setting
from tests.story.telling import Teller, equal, mentions
from tests.world.client import raw_call
from tests.world.issuer import Issuer


def sentence(text: str) -> str:
    """What was said, without the reference that records know it by."""
    return re.sub(r" \(reference x-\w+\)", "", text)


def offboarded_contractor(setting: Setting, tell: Teller) -> None:
    """A token that is over, and one from a stranger, are refused before anything reaches the bank."""
    tell.chapter("An offboarded contractor comes back")
    seen = setting.call(CARL, "get_customer", id=1)
    wire = raw_call(
        setting.bank.url, "get_customer", {"id": 1}, token=CARL.token(setting.issuer), proxy=setting.gateway.url
    )
    challenge = wire.headers.get("www-authenticate", "")
    tell.step(
        "Carl's contract ended, and so did his token. He asks for customer 1.",
        f"HTTP {wire.status_code} invalid_token: {sentence(seen.text)}",
        equal("the SDK's client is told", (seen.refused, seen.code), (True, "unauthenticated")),
        equal("the status", wire.status_code, 401),
        mentions("the challenge of RFC 6750", challenge, 'error="invalid_token"'),
        mentions("the reason", seen.text, "has expired"),
    )
    stranger = Issuer(setting.folder / "elsewhere", url="https://elsewhere.example")
    seen = call(setting.bank.url, MALLORY.token(stranger), setting.gateway.url, "get_customer", {"id": 1})
    tell.step(
        "Mallory shows a token from an issuer that the policy does not list.",
        sentence(seen.text),
        equal("the SDK's client is told", (seen.refused, seen.code), (True, "unauthenticated")),
        mentions("the reason", seen.text, "not believed here"),
    )
    nothing_arrived(setting, tell)


def over_broad_job(setting: Setting, tell: Teller) -> None:
    """A CI job that may both send and approve is refused; with its groups set right it works."""
    tell.chapter("A CI job holds two duties")
    seen = setting.call(DEPLOY_BOT, "list_customers")
    tell.step(
        f"deploy-bot is in {' and '.join(DEPLOY_BOT.groups)}, so it could approve what it sends.",
        sentence(seen.text),
        equal("it is refused", (seen.refused, seen.code), (True, "separation")),
        mentions("its groups are named", seen.text, *DEPLOY_BOT.groups),
        mentions("the rule is named", seen.text, "separation.static [prompt-sender, approver]"),
    )
    nothing_arrived(setting, tell)
    seen = setting.call(DEPLOY_BOT.moved_to("ci-jobs"), "list_customers")
    tools = [call["name"] for call in setting.bank.calls()]
    tell.step(
        "Its groups are set right: ci-jobs alone. Its low-risk call passes.",
        f"{len(seen.structured['result'])} customers" if seen.structured else seen.text,
        equal("it is let through", seen.refused, expected=False),
        equal("the bank was called", tools, ["list_customers"]),
    )


def nothing_arrived(setting: Setting, tell: Teller) -> None:
    """Nothing at all has reached the bank so far."""
    arrivals = setting.bank.arrivals.read()
    tell.step("Nothing reached the bank.", f"{len(arrivals)} requests", equal("what arrived", arrivals, []))
