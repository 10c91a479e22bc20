"""Who speaks to the console: a principal whose token was verified just now, as on the data path."""

from collections.abc import Awaitable, Callable
from typing import Protocol

from fastapi import Request

from mcp_sod.approval.voting import Voter
from mcp_sod.contracts import Journal
from mcp_sod.errors import Refusal
from mcp_sod.exchange import Principal
from mcp_sod.identity.presented import Presented
from mcp_sod.identity.revocations import Revocations
from mcp_sod.policy.addresses import route
from mcp_sod.policy.policy import Policy
from mcp_sod.roles.duties import roles_of


class Tokens(Protocol):
    """Who turns tokens into principals."""

    async def principal(self, shown: Presented) -> Principal:
        """Return whom the one token speaks for; raises Unauthenticated."""


class CallersBack(Protocol):
    """What telling callers apart needs of the running gateway."""

    @property
    def policy(self) -> Policy:
        """The policy of the moment."""

    @property
    def journal(self) -> Journal:
        """Where records go."""

    @property
    def verifier(self) -> Tokens:
        """Who reads tokens."""

    @property
    def revocations(self) -> Revocations:
        """Who was revoked."""


def known_caller(back: CallersBack) -> Callable[[Request], Awaitable[Voter]]:
    """Return the dependency that gives the caller, with the roles of this moment; refusals are on record."""

    async def caller(request: Request) -> Voter:
        policy = back.policy
        try:
            principal = await back.verifier.principal(_presented(request, policy))
            barred = back.revocations.objection(principal, policy.document.revocation)
            if barred is not None:
                raise barred
            return Voter(principal, roles_of(principal, policy), policy.digest)
        except Refusal as refusal:
            facts = {"code": refusal.code, "reason": refusal.sentence, "policy": policy.digest}
            await back.journal.write(refusal.event, method="console", **facts)
            raise

    return caller


def _presented(request: Request, policy: Policy) -> Presented:
    """Return what the request shows; a proof speaks of the console's own address, or of a public one."""
    origins = (f"http://{policy.gateway.console}", *policy.gateway.public)
    return Presented(
        authorization=tuple(request.headers.getlist("authorization")),
        proofs=tuple(request.headers.getlist("dpop")),
        method=request.method,
        urls=frozenset(route(f"{origin}{request.url.path}") for origin in origins),
    )
