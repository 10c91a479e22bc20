"""A gateway without processes: real policy, issuer, verifier and desk, and a journal in memory."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from mcp_sod.approval.desk import Desk
from mcp_sod.database import Database
from mcp_sod.delivery.deliveries import Deliveries
from mcp_sod.identity.minting import Mint
from mcp_sod.identity.revocations import Revocations
from mcp_sod.identity.tokens import Verifier
from mcp_sod.identity.used_assertions import UsedAssertions
from mcp_sod.intake.routing import addresses
from mcp_sod.release.exchanged import ExchangedTokens
from mcp_sod.release.signing import open_signer
from mcp_sod.separation.memory import Memory as Objects
from mcp_sod.wire.conversation import Conversations

from tests.unit.making import Memory, policy_of
from tests.world.issuer import Issuer
from tests.world.policies import identity

SECRET = "AKIAABCDEFGHIJKLMNOP"  # noqa: S105 (made up)
ALL: Mapping[str, Any] = {
    "roles": {
        "sender": {"groups": ["users"]},
        "approver": {"groups": ["approvers"], "humans": True},
        "steward": {"groups": ["stewards"]},
    },
    "permissions": {"sender": [{"upstream": "tools", "methods": ["*"], "tools": ["*"], "except": ["drop"]}]},
    "separation": {
        "static": [["sender", "approver"]],
        "by_object": [{"duties": [{"tool": "make", "key": "result:/id"}, {"tool": "pay", "key": "arguments:/id"}]}],
    },
    "detectors": {"key": {"regex": r"\bAKIA[A-Z2-7]{16}\b"}},
    "rules": [
        {"id": "key", "detect": ["key"], "action": "hold"},
        {"id": "never", "keywords": ["never ever"], "action": "deny"},
    ],
    "masking": [{"id": "secret", "detect": ["key"], "raw_for": ["steward"]}],
}


class House:
    """What the gate, the stages and the console need of a running gateway."""

    def __init__(self, folder: Path, **sections: Any) -> None:
        self.issuer = Issuer(folder / "issuer")
        gateway = {"name": "gw-test", "limits": {"hold": "1s"}}
        self.policy = policy_of(folder, **{"gateway": gateway, **identity(self.issuer), **ALL, **sections})
        self.journal = Memory()
        self.verifier = Verifier(self.policy, b"k" * 32)
        self.ownership_key = b"o" * 32
        self.conversations = Conversations()
        self.signer = open_signer(folder, "urn:mcp-sod:gw-test")
        self.exchanged = ExchangedTokens()
        self.database = Database(folder / "tickets.sqlite")
        self.desk = Desk(self.database, self.journal)
        self.deliveries = Deliveries(self.database, self.journal, b"d" * 32, "gw-test")
        self.objects = Objects(self.database)
        self.revocations = Revocations(self.database, lambda: 0.0)  # nobody looks again, and nothing grows stale
        self.used_assertions = UsedAssertions(self.database)
        self.mint = Mint(folder / "sign-on.key")
        self.keeps_host = False
        self.trouble: str | None = None

    def obstacle(self) -> str | None:
        """Why records cannot reach the store, if the test says so."""
        return self.trouble

    def listed(self, host: str, port: int) -> bool:
        """Whether an upstream lives there."""
        return (host, port) in addresses(self.policy)

    async def begin(self) -> None:
        """Nothing has to be begun."""

    async def run(self) -> None:
        """Nothing runs beside."""

    async def end(self) -> None:
        """Closes the database and the connections."""
        self.database.close()
        await self.exchanged.close()

    def token(self, who: str, *groups: str, **claims: Any) -> str:
        """A good token of someone in these groups."""
        return self.issuer.token(who, groups=groups, email=f"{who}@example.com", **claims)


@asynccontextmanager
async def house(folder: Path, **sections: Any) -> AsyncIterator[House]:
    """A house that is closed at the end."""
    built = House(folder, **sections)
    await built.revocations.look()
    try:
        yield built
    finally:
        await built.end()
