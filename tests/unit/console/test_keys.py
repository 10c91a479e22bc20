"""The key set on the console."""

from pathlib import Path

import httpx
from mcp_sod.console.api import build

from tests.unit.house import house


async def test_everyone_may_read_the_public_keys(tmp_path: Path) -> None:
    """Without a token, for five minutes, and nothing but what the signer publishes; the pages beside it ask for one."""
    async with (
        house(tmp_path) as built,
        httpx.AsyncClient(transport=httpx.ASGITransport(build(built)), base_url="http://console") as http,
    ):
        answer = await http.get("/.well-known/jwks.json")
        assert (answer.status_code, answer.json()) == (200, built.signer.published)
        assert answer.headers["cache-control"] == "public, max-age=300"
        assert (await http.post("/.well-known/jwks.json")).status_code == 405
        assert (await http.get("/api/v1/tickets")).status_code == 401
