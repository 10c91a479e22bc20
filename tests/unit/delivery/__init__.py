"""Unit tests of mcp_sod.delivery."""
