"""The console's paths for revoking: at once, on record, by whoever the policy names."""

import re
from typing import Annotated

from fastapi import APIRouter, Depends
from pydantic import BaseModel, ConfigDict, Field

from mcp_sod.approval.voting import Voter
from mcp_sod.console.callers import CallersBack, known_caller
from mcp_sod.errors import Denied, TicketError
from mcp_sod.exchange import cut
from mcp_sod.identity.revocations import Entry, mark
from mcp_sod.policy.people import Kind, Revoked
from mcp_sod.policy.policy import Policy


class Order(BaseModel):
    """A revocation as it is sent."""

    model_config = ConfigDict(extra="forbid")
    kind: Kind
    value: Annotated[str, Field(min_length=1, max_length=512, pattern=r"\S")]
    reason: Annotated[str, Field(max_length=1000)] = ""


def revocations_router(back: CallersBack) -> APIRouter:
    """Return the paths."""
    router = APIRouter(prefix="/api/v1/revocations")

    async def officer(caller: Annotated[Voter, Depends(known_caller(back))]) -> Voter:
        """Return who may revoke; anyone else is refused, on record."""
        role = back.policy.document.revocation.role
        sentence = _objection(caller, role)
        if sentence is not None:
            await _note(back, "denied", caller, method="revoke", code=Denied.code, reason=sentence)
            raise Denied(sentence, hint="See revocation: in the policy.")
        return caller

    type Officer = Annotated[Voter, Depends(officer)]

    @router.get("")
    async def entries(_caller: Officer) -> list[dict[str, object]]:
        """Return what is revoked, by command and by the policy."""
        listed = back.policy.document.revocation.revoked
        return [*map(_shown, await back.revocations.entries()), *map(_shown_of_policy, listed)]

    @router.post("")
    async def revoke(order: Order, caller: Officer) -> dict[str, object]:
        """Revoke: in force here when this returns, and within a second where the database is shared."""
        kind, value = mark(order.kind, order.value)
        _check(kind, value, caller, back.policy)
        await _note(back, "revoked", caller, kind=kind, value=cut(value), reason=order.reason)
        entry = await back.revocations.revoke(order.kind, order.value, order.reason, caller.principal.account)
        return _shown(entry)

    @router.delete("/{entry}")
    async def lift(entry: int, caller: Officer) -> dict[str, object]:
        """Take a revocation back."""
        await _lift(back, entry, caller)
        return {"id": entry, "lifted": True}

    return router


async def _lift(back: CallersBack, entry: int, caller: Voter) -> None:
    """Lift a revocation of others than the caller, on record; raises TicketError or Denied."""
    found = next((one for one in await back.revocations.entries() if one.id == entry), None)
    if found is None:
        raise TicketError("There is no such revocation in force.", hint="See the list.")
    if (found.kind, found.value) in caller.principal.marks:
        raise Denied("This concerns you.", hint="Another person must lift it.")
    facts = {"kind": found.kind, "value": cut(found.value), "reason": found.reason}
    await _note(back, "revocation lifted", caller, entry=entry, **facts)
    if not await back.revocations.lift(entry, caller.principal.account):
        raise TicketError("There is no such revocation in force.", hint="See the list; what the policy lists stays.")


def _objection(caller: Voter, role: str | None) -> str | None:
    """Return why someone may not revoke, or None."""
    if role is None:
        return "Nobody may revoke by command."
    if role not in caller.roles:
        human = " and a person, not a machine" if caller.principal.kind == "machine" else ""
        return f"Revoking needs the role {role}{human}."
    return "Your token is for someone who acts for you (act)." if caller.principal.delegated else None


def _check(kind: Kind, value: str, caller: Voter, policy: Policy) -> None:
    """Raise TicketError for what can hit nobody, since a slip must not look like success; and for what hits oneself."""
    if kind == "session" and re.fullmatch("[0-9a-f]{16}", value) is None:
        raise TicketError("A session is named by its fingerprint, 16 hex digits.", hint="See the records of its calls.")
    issuers = [
        *(known.issuer for known in policy.document.identity),
        *(known.entity for known in policy.document.saml.values()),
    ]
    if kind == "subject" and "#" in value and not any(value.startswith(f"{name}#".casefold()) for name in issuers):
        raise TicketError("No issuer of the policy begins this account.", hint="Give `sub`, or issuer#sub.")
    if (kind, value) in caller.principal.marks:
        raise TicketError(
            "This would revoke you: your own token rests on it.",
            hint="Have another person do it, or use a token that does not (of a key that is not lost, for one).",
        )


async def _note(back: CallersBack, event: str, caller: Voter, **facts: object) -> None:
    who = {"principal": caller.principal.facts(), "roles": sorted(caller.roles), "policy": caller.policy}
    await back.journal.write(event, **who, **facts)


def _shown_of_policy(entry: Revoked) -> dict[str, object]:
    kind, value = entry.named
    return {"id": None, "kind": kind, "value": value, "reason": entry.reason, "by": "policy", "at": None}


def _shown(entry: Entry) -> dict[str, object]:
    return {name: getattr(entry, name) for name in Entry.__slots__}
