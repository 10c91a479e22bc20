"""Streaming: what mitmproxy cannot do with a streamed reply: end it, and let the gateway itself speak on it."""
