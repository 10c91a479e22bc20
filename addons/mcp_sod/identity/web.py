"""Asks identity providers over HTTP without holding up the event loop."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from urllib.parse import quote_plus

import httpx

MAX_SIZE = 256 * 1024  # bytes of an answer
PATIENCE = 5.0  # seconds


class WebError(Exception):
    """The provider could not be reached, or what it said was not understood."""


class Web:
    """HTTP to identity providers: no redirects, a short patience, bounded answers."""

    def __init__(self) -> None:
        """Begin with no certificates read."""
        self._trust: ssl.SSLContext | None = None

    async def get(self, url: str) -> Mapping[str, object]:
        """Return the JSON object at a URL; raises WebError."""
        return await self._ask("GET", url)

    async def post(self, url: str, form: Mapping[str, str], client: tuple[str, str]) -> Mapping[str, object]:
        """Return the JSON object that a form is answered with; `client`: id and secret (RFC 6749, section 2.3.1)."""
        secret = httpx.BasicAuth(*map(quote_plus, client))
        return await self._ask("POST", url, data=form, auth=secret)

    async def _ask(self, method: str, url: str, **more: object) -> Mapping[str, object]:
        if self._trust is None:  # reading the certificates takes some ten milliseconds
            self._trust = await asyncio.to_thread(httpx.create_ssl_context)
        try:
            async with (
                asyncio.timeout(PATIENCE),
                self._client(self._trust, url) as client,
                client.stream(method, url, **more) as answer,  # type: ignore[arg-type]
            ):
                if answer.status_code != 200:
                    raise WebError(f"HTTP {answer.status_code}")
                return _object(await _bounded(answer))
        except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
            why = f": {error}" if isinstance(error, httpx.ConnectError) else ""  # others may say what was sent
            raise WebError(f"{type(error).__name__}{why}") from None

    def _client(self, trust: ssl.SSLContext, url: str) -> httpx.AsyncClient:
        plain = {"accept-encoding": "identity"}
        # A proxy on the way may carry what it cannot read; on loopback there is none.
        return httpx.AsyncClient(verify=trust, timeout=PATIENCE, headers=plain, trust_env=url.startswith("https:"))


async def _bounded(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > MAX_SIZE:
            raise WebError("an answer that is too large")
    return bytes(body)


def _object(raw: bytes) -> Mapping[str, object]:
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        raise WebError("no JSON") from None
    if not isinstance(found, dict):
        raise WebError("no JSON object")
    return found
