"""Unit tests of mcp_sod.intake."""
