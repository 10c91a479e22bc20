"""The policy: YAML in, a validated and compiled `Policy` out."""

from mcp_sod.policy.load import load
from mcp_sod.policy.policy import Policy

__all__ = ["Policy", "load"]
