"""Bytes to messages and back: strict JSON, JSON-RPC, MCP of both eras, server-sent events."""
