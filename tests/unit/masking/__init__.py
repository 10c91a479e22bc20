"""Unit tests of mcp_sod.masking."""
