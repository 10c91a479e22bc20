"""What the gate and the duties need of the running gateway."""

from typing import Protocol

from mcp_sod.policy.policy import Policy


class Journal(Protocol):
    """Where records are made durable."""

    async def write(self, event: str, **fields: object) -> int:
        """Append one record and return its number; raises AuditError if it could not be made durable."""


class Runtime(Protocol):
    """What the gate needs of the running gateway."""

    @property
    def policy(self) -> Policy:
        """The policy of the moment."""

    @property
    def journal(self) -> Journal:
        """Where records go."""

    def listed(self, host: str, port: int) -> bool:
        """Say whether an upstream of the policy lives at this address."""

    async def begin(self) -> None:
        """Record the start."""

    async def run(self) -> None:
        """Keep everything beside the data path going."""

    async def end(self) -> None:
        """Record the stop and close."""
