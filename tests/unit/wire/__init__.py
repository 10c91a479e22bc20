"""Unit tests of mcp_sod.wire."""
