"""Where the console listens."""

import socket
from collections.abc import AsyncIterator

import httpx
import pytest
from fastapi import FastAPI
from mcp_sod.console.server import MAX_BODY, MAX_SIGN_ON, Small, claim
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


@pytest.mark.parametrize(
    ("content", "status"),
    [(b"x" * MAX_BODY, 200), (b"x" * (MAX_BODY + 1), 413), (None, 413), (b"", 200)],
    ids=["as large as may be", "one byte more", "of no stated length", "empty"],
)
async def test_a_large_body_is_refused_unread(content: bytes | None, status: int) -> None:
    """Whoever sends the console more than a vote, with or without a token, is refused before anything reads it."""
    app = FastAPI()
    app.add_api_route("/", lambda: "read", methods=["POST"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Small(app)), base_url="http://console") as client:
        assert (await client.post("/", content=_chunks() if content is None else content)).status_code == status


@pytest.mark.parametrize(
    ("path", "size", "status"),
    [
        ("/saml/corp/acs", MAX_SIGN_ON, 200),
        ("/saml/corp/acs", MAX_SIGN_ON + 1, 413),
        ("/saml/corp/acs/", MAX_BODY + 1, 413),
        ("/saml/a/b/acs", MAX_BODY + 1, 413),
        ("/api/saml/corp/acs", MAX_BODY + 1, 413),
        ("/api/v1/tickets/t-1/votes", MAX_BODY + 1, 413),
        ("/saml/corp", MAX_BODY + 1, 413),
    ],
)
async def test_only_where_people_sign_on_a_body_may_be_larger(path: str, size: int, status: int) -> None:
    """A SAML response fits where responses come, and nowhere else."""
    app = FastAPI()
    app.add_api_route("/{path:path}", lambda: "read", methods=["POST"])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(Small(app)), base_url="http://console") as client:
        assert (await client.post(path, content=b"x" * size)).status_code == status


async def _chunks() -> AsyncIterator[bytes]:
    yield b"in chunks"
