"""Who plays: each with the token that the identity provider would give."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from tests.world.flaws import Flaw
from tests.world.issuer import Issuer

SHIFT = 12 * 3600  # seconds that a token is good for, so that --stay leaves time to try things


@dataclass(frozen=True, slots=True)
class Person:
    """One account: a person's, or a machine's."""

    name: str
    groups: tuple[str, ...]
    email: str | None = None
    machine: bool = False
    flaw: Flaw | None = None
    claims: Mapping[str, Any] = field(default_factory=dict)
    partners: bool = False  # an account at the partner's identity provider

    def token(self, issuer: Issuer) -> str:
        """A fresh token for this account."""
        return issuer.token(
            self.name,
            groups=self.groups,
            email=self.email,
            machine=self.machine,
            flaw=self.flaw,
            lifetime=SHIFT,
            **self.claims,
        )

    def moved_to(self, *groups: str) -> "Person":
        """The same account after its groups were changed."""
        return replace(self, groups=groups)

    def bound_to(self, thumbprint: str) -> "Person":
        """The same account with tokens that are good only beside a proof of this key (RFC 9449)."""
        return replace(self, claims={**self.claims, "cnf": {"jkt": thumbprint}})


CARL = Person("carl", ("mcp-users",), "carl@contractor.example", flaw="expired")
MALLORY = Person("mallory", ("mcp-users",), "mallory@elsewhere.example")
DEPLOY_BOT = Person("deploy-bot", ("ci-jobs", "mcp-approvers"), machine=True, claims={"actor": "dora@corp.example"})
ALICE = Person("alice", ("mcp-users",), "alice@corp.example")
ALICE_ADMIN = Person("alice-admin", ("mcp-approvers",), "Alice@corp.example")
APPROVE_BOT = Person("approve-bot", ("mcp-approvers",), machine=True)
VICTOR = Person("victor", ("analysts",), "victor@corp.example")
PAULA = Person("paula", ("mcp-approvers",), "paula@corp.example")
STELLA = Person("stella", ("mcp-users", "data-stewards"), "stella@corp.example")
DANA = Person("dana", ("mcp-users",), "dana@corp.example", claims={"employee_id": "E-1701"})
DANA_ELSEWHERE = Person(
    "d.marsh", ("mcp-approvers",), "d.marsh@partner.example", claims={"employee_id": "e-1701"}, partners=True
)
TARA = Person("tara", ("mcp-users",), "tara@corp.example")
OLGA = Person("olga", ("security-officers",), "olga@corp.example")
