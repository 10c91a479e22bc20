"""Unit tests of mcp_sod.policy."""
