"""Unit tests of mcp_sod.identity."""
