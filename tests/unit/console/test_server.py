"""Where the console listens."""

import socket

import pytest
from mcp_sod.console.server import claim
from mcp_sod.errors import StartError


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_in_use_is_told(host: str) -> None:
    """A console whose port is taken does not start, and says which port and what to do."""
    if host == "::1" and not socket.has_ipv6:
        pytest.skip("this machine has no IPv6")
    with claim(host, 0) as first:
        first.listen()
        port = first.getsockname()[1]
        with pytest.raises(StartError, match=rf"cannot listen on {host}:{port}: .* change gateway\.console"):
            claim(host, port)
