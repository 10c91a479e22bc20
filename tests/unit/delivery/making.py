"""Parcels to start from."""

from typing import Any

from mcp_sod.delivery.receipts import Collector
from mcp_sod.delivery.shelf import Parcel

from tests.unit.making import principal_of

NOW = 1_000_000


def parcel_of(parcel_id: str = "r-0123456789abcdef", **changed: Any) -> Parcel:
    """What alice's call of `export_all` left for viewers."""
    alice = principal_of("alice")
    facts: dict[str, Any] = {
        "id": parcel_id, "state": "expected", "created": NOW, "changed": NOW, "expires": NOW + 60, "reference": "x-1",
        "gateway": "gw-test", "account": alice.account, "behind": alice.behind, "upstream": "tools",
        "tool": "export_all", "role": "viewer", "policy": "p",
    }  # fmt: skip
    return Parcel(**{**facts, **changed})


def collector_of(subject: str = "vera", *roles: str, **facts: Any) -> Collector:
    """Someone with these roles, a viewer if none are named."""
    return Collector(principal_of(subject, **facts), frozenset(roles or ("viewer",)), "p")
