"""Addresses of upstreams."""

import pytest
from mcp_sod.policy.addresses import address, route


@pytest.mark.parametrize(
    ("url", "one_form"),
    [
        ("http://h", "http://h:80/"),
        ("HTTP://H:80/", "http://h:80/"),
        ("https://h/mcp", "https://h:443/mcp"),
        ("https://h:8443/MCP?x=1", "https://h:8443/MCP?x=1"),
    ],
)
def test_a_route_has_one_form(url: str, one_form: str) -> None:
    """Scheme and host in lower case, the port written out, path and query as they are."""
    assert route(url) == one_form


def test_an_address_is_host_and_port() -> None:
    """Brackets of IPv6 are off; a port that is none is an error."""
    assert address("http://[::1]:8080/x") == ("::1", 8080)
    with pytest.raises(ValueError, match=r"[Pp]ort"):
        address("http://h:99999/")
