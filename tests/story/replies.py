"""Chapter 7: who reads what of one and the same reply."""

from tests.story.people import ALICE, STELLA
from tests.story.setting import Setting
from tests.story.telling import Teller, equal, lacks, mentions
from tests.world.ledger import CUSTOMERS

HIDDEN = ("password", "ssn", "card", "api_key")


def two_readers(setting: Setting, tell: Teller) -> None:
    """A viewer gets the reply masked, in both of its forms; a data steward gets it raw."""
    tell.chapter("One reply, two readers")
    customer = dict(CUSTOMERS[0])
    secrets = [str(customer[name]) for name in HIDDEN]
    seen = setting.call(ALICE, "get_customer", id=1)
    shown = seen.structured or {}
    tell.step(
        "Alice, a viewer, reads customer 1: masked.",
        ", ".join(f"{name} {shown.get(name)}" for name in ("name", *HIDDEN)),
        lacks("the text", seen.text, *secrets),
        lacks("the structured content", str(shown), *secrets),
        mentions("the text", seen.text, "[masked:", "Ada Marsh"),
        equal("the masked fields", [str(shown.get(name))[:8] for name in HIDDEN], ["[masked:"] * len(HIDDEN)),
        equal("the name", shown.get("name"), customer["name"]),
    )
    seen = setting.call(STELLA, "get_customer", id=1)
    shown = seen.structured or {}
    tell.step(
        "Stella, a data steward, reads the same: raw.",
        ", ".join(f"{name} {shown.get(name)}" for name in ("name", *HIDDEN)),
        equal("the structured content", shown, customer),
        mentions("the text", seen.text, *secrets),
    )
