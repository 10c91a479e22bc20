"""Unit tests of mcp_sod.console."""
