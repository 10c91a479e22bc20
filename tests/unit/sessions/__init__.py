"""Tests of mcp_sod.sessions."""
