"""Unit tests of mcp_sod.release."""
