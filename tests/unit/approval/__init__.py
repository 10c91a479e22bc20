"""Unit tests of mcp_sod.approval."""
