"""Unit tests of mcp_sod.risk."""
