"""Results on their way to another person than their sender: expected, kept, collected once, or over."""

import asyncio
import contextlib
import hashlib
import time
from collections.abc import Callable, Mapping
from typing import Literal

from mcp_sod.contracts import Journal
from mcp_sod.database import Database
from mcp_sod.delivery.receipts import Collector, objection
from mcp_sod.delivery.sealing import Seal
from mcp_sod.delivery.shelf import Parcel, Shelf
from mcp_sod.errors import AuditError, Denied, SodError, TicketError, Unavailable, Withheld
from mcp_sod.exchange import Exchange
from mcp_sod.wire.receipts import Handed

POLL = 1.0  # seconds: how late it is noticed that a result will not come, or that its time is over
TIDY = 600  # seconds between two looks at what can be forgotten
MOST = 500  # parcels of one list

type Over = Callable[[], bool]


class Deliveries:
    """Delivery's side of the data path and of the console, over the parcels of one database."""

    def __init__(
        self,
        database: Database,
        journal: Journal,
        key: bytes,
        gateway: str,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`key`: 32 bytes that seal the bodies; `gateway`: the name of this one, which says whose calls ended."""
        self._shelf = Shelf(database)
        self._do = database.run
        self._journal = journal
        self._seal = Seal(key)
        self._gateway = gateway
        self._clock = clock
        self._expected: dict[str, tuple[Parcel, Over]] = {}
        self._tidied = 0

    # for calls

    async def expect(self, exchange: Exchange, over: Over) -> None:
        """Make durable for whom the result of a call is, before the call leaves; raises Denied or Unavailable.

        `over` says whether the call has ended in whichever way, so that nobody waits for a result that cannot come.
        """
        parcel = _new(exchange, self._gateway, self._now())
        self._expected[parcel.id] = parcel, over
        try:
            room = await self._do(self._shelf.expect, parcel)
        except SodError:
            self._expected.pop(parcel.id)
            raise
        if not room:
            self._expected.pop(parcel.id)
            raise Denied(
                "Too many results wait to be collected already.",
                hint=f"Have someone with the role {parcel.role} collect some, or wait until they expire.",
            )

    async def settle(self, receipt: str, body: bytes | None, *, asked_back: bool) -> None:
        """Keep what came for the receipt, or note that nothing did; raises Withheld where it could not be kept."""
        known = self._expected.get(receipt)
        if known is None:
            raise Withheld("The call's receipt is not known.")
        parcel = known[0]
        if body is None:
            await self._end(parcel, "continued" if asked_back else "lost", "No result came that could be kept.")
            return
        try:
            kept = await self._do(self._keep, parcel, body)
        except Unavailable as error:
            raise Withheld("The result could not be kept for who is to collect it.", operator=error.told) from None
        self._expected.pop(receipt, None)
        if not kept:
            raise Withheld("The result came after the time in which it could have been collected.")

    def _keep(self, parcel: Parcel, body: bytes) -> bool:
        return self._shelf.keep(self._seal.closed(parcel, body), self._now())

    # for collectors

    async def collect(
        self, receipt: str, collector: Collector, bearings: Mapping[str, object], *, upstream: str | None = None
    ) -> tuple[Parcel, bytes]:
        """Return a parcel and its body, once, to whom it may concern; raises a SodError that says why not.

        It is on record before this returns, with the `bearings` of how it was asked for. `upstream`: through which,
        if it was through one.
        """
        parcel = await self._do(self._shelf.get, receipt)
        if parcel is None or upstream not in (None, parcel.upstream):
            raise TicketError("There is no such receipt here.", hint="Receipts are told to senders, and listed.")
        now, account = self._now(), collector.principal.account
        refused = objection(parcel, collector, now)
        if refused is not None:
            raise refused
        body = await self._do(self._seal.opened, parcel)
        if not await self._do(self._shelf.collect, parcel.id, account, now):
            raise TicketError("This result was collected already, or its time is over.")
        facts = about(parcel, collector) | {"bytes": len(body), "sha256": hashlib.sha256(body).hexdigest()}
        try:
            await self._journal.write("delivered", **{**bearings, **facts})
        except AuditError:
            await self._do(self._shelf.restore, parcel.id, account, now)  # nobody got it
            raise
        with contextlib.suppress(SodError):  # `tidy` will see to it
            await self._do(self._shelf.wipe, parcel.id)
        return parcel, body

    async def refused(self, receipt: str, collector: Collector, error: SodError) -> None:
        """Record that someone did not get what they wanted to collect."""
        parcel = await self._do(self._shelf.get, receipt)
        facts = _who(collector) if parcel is None else about(parcel, collector)
        await self._journal.write("denied", method="collect", code=error.code, reason=error.told, **facts)

    async def concerning(self, collector: Collector) -> list[tuple[Parcel, SodError | None]]:
        """Return the newest parcels that wait for someone or were sent by them, and why they may not collect each."""
        account, now = collector.principal.account, self._now()
        found = await self._do(self._shelf.concerning, account, collector.roles, MOST)
        return [(parcel, objection(parcel, collector, now)) for parcel in found]

    # beside both

    async def begin(self) -> None:
        """Note that results of calls which ended with an earlier run of this gateway will not come."""
        while left := await self._do(self._shelf.expected_by, self._gateway):
            for parcel in left:
                await self._end(parcel, "lost", "The gateway ended before the result came.")

    async def watch(self) -> None:
        """Notice what is over, for as long as the gateway runs."""
        while True:
            await asyncio.sleep(POLL)
            try:
                await self.look()
            except SodError:
                continue  # callers meet the same fault themselves and are refused; here it must not end the watch

    async def look(self) -> None:
        """See to parcels whose calls have ended with no result, and to those whose time is over."""
        for parcel, over in list(self._expected.values()):
            if over():
                await self._end(parcel, "lost", "The call ended without a result that could be kept.")
        now = self._now()
        for parcel in await self._do(self._shelf.overdue, now):
            await self._journal.write("expired", **_facts(parcel), account=parcel.account)
            await self._do(self._shelf.expire, parcel.id, now)
        if now - self._tidied >= TIDY:
            self._tidied = now
            await self._do(self._shelf.tidy, now)

    async def _end(self, parcel: Parcel, state: Literal["continued", "lost"], reason: str) -> None:
        if state == "lost":
            await self._journal.write("lost", **_facts(parcel), account=parcel.account, reason=reason)
        await self._do(self._shelf.end, parcel.id, state, self._now())
        self._expected.pop(parcel.id, None)

    def _now(self) -> int:
        return int(self._clock())


def about(parcel: Parcel, collector: Collector) -> dict[str, object]:
    """Return what records say of a parcel and of who asks for it."""
    return {**_facts(parcel), **_who(collector), "sender": parcel.account}


def _who(collector: Collector) -> dict[str, object]:
    return {
        "policy": collector.policy,
        "principal": collector.principal.facts(),
        "roles": sorted(collector.roles),
    }


def _facts(parcel: Parcel) -> dict[str, object]:
    return {
        "receipt": parcel.id,
        "sent": parcel.reference,
        "upstream": parcel.upstream,
        "tool": parcel.tool,
        "role": parcel.role,
        "policy": parcel.policy,
    }


def _new(exchange: Exchange, gateway: str, now: int) -> Parcel:
    handed, principal, call = exchange.recipient, exchange.principal, exchange.call
    assert isinstance(handed, Handed)
    assert principal is not None
    assert call is not None
    return Parcel(
        id=handed.receipt.id,
        state="expected",
        created=now,
        changed=now,
        expires=handed.receipt.expires,
        reference=exchange.reference,
        gateway=gateway,
        account=principal.account,
        behind=principal.behind,
        upstream=exchange.upstream_name or "",
        tool=exchange.redact(call.tool or ""),
        role=handed.receipt.role,
        policy=exchange.policy.digest,
        size=exchange.policy.gateway.limits.body,
    )
