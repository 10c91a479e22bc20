"""A segregation-of-duties gateway for MCP, as a bundle of mitmproxy addons; `chain.py` shows it whole."""

__version__ = "0.1.0"
