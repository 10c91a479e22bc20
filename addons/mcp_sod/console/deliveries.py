"""The console's paths for collecting results that their senders did not get."""

from typing import Annotated, Protocol

from fastapi import APIRouter, Depends
from fastapi.responses import Response

from mcp_sod.approval.voting import Voter
from mcp_sod.console.callers import CallersBack, known_caller
from mcp_sod.delivery.deliveries import Deliveries
from mcp_sod.delivery.receipts import Collector
from mcp_sod.delivery.shelf import Parcel
from mcp_sod.errors import AuditError, SodError, Unavailable
from mcp_sod.wire.strict_json import dumps


class DeliveriesBack(CallersBack, Protocol):
    """What collecting needs of the running gateway."""

    @property
    def deliveries(self) -> Deliveries:
        """Where results wait."""

    def obstacle(self) -> str | None:
        """Say why records cannot reach the store for now, or None."""


def deliveries_router(back: DeliveriesBack) -> APIRouter:
    """Return the paths."""
    router = APIRouter(prefix="/api/v1/deliveries")
    type Caller = Annotated[Voter, Depends(known_caller(back))]

    @router.get("")
    async def deliveries(caller: Caller) -> list[dict[str, object]]:
        """Return what waits for the caller and what the caller sent, newest first, without the results."""
        found = await back.deliveries.concerning(_collector(caller))
        return [_described(parcel, refused, caller) for parcel, refused in found]

    @router.post("/{receipt}/collect")
    async def collect(receipt: str, caller: Caller) -> Response:
        """Return a result, once, as it was kept: `{"receipt": …, "result" or "error": …}`, to the digit."""
        collector, obstacle = _collector(caller), back.obstacle()
        if obstacle is not None:
            raise Unavailable("The audit store takes no records for now.", hint="Try again later.", operator=obstacle)
        try:
            parcel, body = await back.deliveries.collect(receipt, collector, {"method": "collect"})
        except AuditError:
            raise
        except SodError as refused:
            await back.deliveries.refused(receipt, collector, refused)
            raise
        about = {"receipt": parcel.id, "upstream": parcel.upstream, "tool": parcel.tool, "sender": parcel.account}
        whole = dumps(about)[:-1].encode() + b"," + body[1:]
        return Response(whole, media_type="application/json", headers={"cache-control": "no-store"})

    return router


def _collector(caller: Voter) -> Collector:
    return Collector(caller.principal, caller.roles, caller.policy)


def _described(parcel: Parcel, refused: SodError | None, caller: Voter) -> dict[str, object]:
    return {
        "receipt": parcel.id,
        "state": parcel.state,
        "created": parcel.created,
        "expires": parcel.expires,
        "sender": parcel.account,
        "sent_by_me": parcel.account == caller.principal.account,
        "upstream": parcel.upstream,
        "tool": parcel.tool,
        "role": parcel.role,
        "bytes": 0 if parcel.state == "expected" else parcel.size,
        "collector": parcel.collector,
        "may_collect": refused is None,
        "why_not": str(refused) if refused else None,
    }
