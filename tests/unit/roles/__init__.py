"""Unit tests of mcp_sod.roles."""
