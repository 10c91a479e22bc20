"""The public keys of this gateway's assertions, for upstreams."""

from collections.abc import Callable

from fastapi import APIRouter
from fastapi.responses import JSONResponse


def router(published: Callable[[], dict[str, list[dict[str, str]]]]) -> APIRouter:
    """Return the page with the key set (RFC 7517); it asks for no token, since everyone may know it."""
    pages = APIRouter()

    @pages.get("/.well-known/jwks.json")
    async def keys() -> JSONResponse:
        """Return the keys that assertions are signed with."""
        return JSONResponse(published(), headers={"cache-control": "public, max-age=300"})

    return pages
