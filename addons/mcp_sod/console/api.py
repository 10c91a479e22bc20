"""The console's API: tickets and votes, for people whose own token says who they are."""

import functools
from typing import Annotated, Literal, Protocol

from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from mcp_sod.approval.desk import Desk
from mcp_sod.approval.tickets import Ticket, Vote
from mcp_sod.approval.voting import Ballot, Voter
from mcp_sod.challenges import challenges
from mcp_sod.console.callers import CallersBack, known_caller
from mcp_sod.console.deliveries import deliveries_router
from mcp_sod.console.keys import router as keys
from mcp_sod.console.revocations import revocations_router
from mcp_sod.console.saml import saml_router
from mcp_sod.delivery.deliveries import Deliveries
from mcp_sod.errors import (
    AuditError,
    Denied,
    InsufficientScope,
    Revoked,
    SodError,
    TicketError,
    Unauthenticated,
    Unavailable,
)  # fmt: skip
from mcp_sod.identity.minting import Mint
from mcp_sod.identity.used_assertions import UsedAssertions
from mcp_sod.release.signing import Signer

MOST = 500


class Back(CallersBack, Protocol):
    """What the console needs of the running gateway."""

    @property
    def desk(self) -> Desk:
        """Where tickets are."""

    @property
    def deliveries(self) -> Deliveries:
        """Where results wait that go past their senders."""

    @property
    def signer(self) -> Signer:
        """Who signs assertions."""

    @property
    def mint(self) -> Mint:
        """Who makes tokens for people who signed on."""

    @property
    def used_assertions(self) -> UsedAssertions:
        """Which assertions were used."""

    def obstacle(self) -> str | None:
        """Say why records cannot reach the store for now, or None."""


class Cast(BaseModel):
    """A vote as it is sent: of the call with the digest that the voter saw."""

    model_config = ConfigDict(extra="forbid")
    decision: Literal["approve", "deny"]
    digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    reason: Annotated[str, Field(max_length=1000)] = ""


def build(back: Back) -> FastAPI:
    """Return the console's application."""
    app = FastAPI(title="mcp-sod console", version="1", docs_url=None, redoc_url=None)
    app.add_exception_handler(SodError, functools.partial(_failed, back))
    app.include_router(keys(lambda: back.signer.published))
    app.include_router(saml_router(back))
    app.include_router(revocations_router(back))
    app.include_router(deliveries_router(back))

    type Caller = Annotated[Voter, Depends(known_caller(back))]

    @app.get("/healthz")
    async def health() -> dict[str, str]:
        """Say whether calls can go through; why not is on record, and no business of just anyone."""
        return {"status": "ok" if back.obstacle() is None else "refusing"}

    @app.get("/api/v1/tickets")
    async def tickets(caller: Caller, state: str | None = None) -> list[dict[str, object]]:
        """Return the newest tickets that the caller may see, without the calls' contents."""
        found = await back.desk.newest(state, MOST)
        return [await _described(back, caller, ticket) for ticket in found if caller.may_see(ticket)]

    @app.get("/api/v1/tickets/{ticket_id}")
    async def ticket(ticket_id: str, caller: Caller) -> dict[str, object]:
        """Return one ticket with the call (masked) and the votes."""
        found, votes = await back.desk.show(ticket_id, caller)
        return await _described(back, caller, found) | {
            "call": found.shown,
            "votes": [_vote(vote) for vote in votes],
        }

    @app.post("/api/v1/tickets/{ticket_id}/votes")
    async def vote(ticket_id: str, cast: Cast, caller: Caller) -> dict[str, object]:
        """Vote on a ticket."""
        ballot = Ballot(cast.decision, cast.digest, cast.reason)
        return await _described(back, caller, await back.desk.vote(ticket_id, caller, ballot))

    return app


async def _described(back: Back, caller: Voter, ticket: Ticket) -> dict[str, object]:
    votes = (await back.desk.look_up(ticket.id))[1]
    objection = back.desk.objection(ticket, votes, caller)
    return {
        "id": ticket.id,
        "state": ticket.state,
        "created": ticket.created,
        "expires": ticket.expires,
        "requester": ticket.account,
        "behind": sorted(ticket.behind),
        "upstream": ticket.upstream,
        "method": ticket.method,
        "target": ticket.target,
        "digest": ticket.digest,
        "findings": list(ticket.findings),
        "needs": [{"rule": need.rule, "role": need.role, "votes": need.votes} for need in ticket.needs],
        "approvals": sum(vote.decision == "approve" for vote in votes),
        "may_vote": objection is None,
        "why_not": str(objection) if objection else None,
    }


def _vote(vote: Vote) -> dict[str, object]:
    return {"who": vote.account, "decision": vote.decision, "reason": vote.reason, "at": vote.at}


async def _failed(back: Back, _request: Request, error: Exception) -> JSONResponse:
    status, headers = 500, {"cache-control": "no-store"}
    match error:
        case Unauthenticated() | InsufficientScope():
            status = error.status
            headers |= challenges(back.policy, error, None)
        case Denied() | Revoked():
            status = 403
        case Unavailable() | AuditError():
            status = 503
        case TicketError():
            status = 404 if error.sentence.startswith("There is no such ") else 409
    assert isinstance(error, SodError)
    return JSONResponse({"code": error.code, "error": error.sentence, "hint": error.hint}, status, headers)
