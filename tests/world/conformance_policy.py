"""The policy that the conformance suite is led through: it allows everything, and every stage has work to do."""

from typing import Any

from tests.world.gateway import Policy
from tests.world.issuer import Issuer
from tests.world.policies import default_policy

CALLER = "conformers"  # the group that may call everything
READER = "conformance-readers"  # the group that sees every value as it is

_ROLES: dict[str, Any] = {
    "roles": {
        "prompt-sender": {"groups": [CALLER]},
        "raw-viewer": {"groups": [READER]},
        "approver": {"groups": ["mcp-approvers"], "humans": True},
        "auditor": {"groups": ["audit"]},
    },
    "permissions": {"prompt-sender": [{"upstream": "tools", "methods": ["*"], "tools": ["*"]}]},
    "separation": {"static": [["prompt-sender", "approver"], ["prompt-sender", "auditor"]]},
    "delivery": {},
    "revocation": {},
}


def open_policy(issuer: Issuer, upstream: str) -> Policy:
    """The default policy's rules, masks and detectors, none of which hits, and a role that may do everything."""
    return default_policy(issuer, upstream, roles=_ROLES)


def caller_token(issuer: Issuer, *, raw: bool = True) -> str:
    """A caller's token that lasts for a run; without `raw`, the masks apply to what the caller reads."""
    groups = (CALLER, READER) if raw else (CALLER,)
    return issuer.token("ada", groups=groups, email="ada@people.example", lifetime=3600)
