"""Identity on the flow: where tokens come from, and who is calling."""

import functools
from collections.abc import Callable

from mitmproxy import http

from mcp_sod.errors import Refusal
from mcp_sod.exchange import Exchange, Marks, Principal, fingerprint
from mcp_sod.gate import Gate
from mcp_sod.identity.presented import credential, presented
from mcp_sod.identity.revocations import Revocations
from mcp_sod.identity.tokens import Verifier
from mcp_sod.policy.policy import Policy
from mcp_sod.resource import metadata, proof_addresses
from mcp_sod.stage import Stage, on_request
from mcp_sod.wire.strict_json import dumps

_NOWHERE: frozenset[str] = frozenset()


class Metadata(Stage):
    """Tells clients without a token where to get one; all else is for the stages behind it."""

    @on_request
    async def request(self, exchange: Exchange, flow: http.HTTPFlow) -> None:
        """Answer a question for protected-resource metadata, which is public (RFC 9728)."""
        found = metadata(exchange.request, exchange.policy)
        if found is not None:
            headers = {"content-type": "application/json", "cache-control": "no-store"}
            self.gate.settle(flow, 200, dumps(found).encode(), headers)


class Identity(Stage):
    """Finds out who is calling, from the one token of the request or of its tunnel."""

    def __init__(
        self, gate: Gate, verifier: Callable[[], Verifier], revocations: Revocations, policy: Callable[[], Policy]
    ) -> None:
        """`verifier` and `policy` give those of the moment."""
        super().__init__(gate)
        self._verifier = verifier
        self._revocations = revocations
        self._policy = policy

    @on_request
    async def request(self, exchange: Exchange, _flow: http.HTTPFlow) -> None:
        """Fill in the principal, and how to tell later that it was revoked."""
        request, policy = exchange.request, exchange.policy
        shown = presented(request, proof_addresses(request, policy) if request.header("dpop") else _NOWHERE)
        exchange.principal = await self._verifier().principal(shown)
        exchange.token = credential(shown).token
        exchange.barred = functools.partial(self._barred, exchange, exchange.principal)
        exchange.revoked = self._revoked
        barred = exchange.barred()
        if barred is not None:
            raise barred

    def _barred(self, exchange: Exchange, principal: Principal) -> Refusal | None:
        standing = exchange.standing
        session = fingerprint(standing.session) if standing is not None and standing.session else ""
        return self._revocations.objection(principal, self._policy().document.revocation, session)

    def _revoked(self, marks: Marks) -> bool:
        return self._revocations.reaches(marks, self._policy().document.revocation)
