"""The token endpoint of an exchange (RFC 8693): what it is asked, and what of its answers is believed."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from urllib.parse import quote_plus

import httpx

from mcp_sod.errors import Malformed
from mcp_sod.policy.upstreams import TokenExchange
from mcp_sod.wire.strict_json import Json, parse

PATIENCE = 5.0  # seconds for the whole answer
HINT_PATIENCE = 1.0  # seconds for what only says why there is no token
MAX_SIZE = 64 * 1024  # bytes of it
_GRANT = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105 (a type, no token)
_USABLE_TYPES = (_ACCESS_TOKEN, "urn:ietf:params:oauth:token-type:jwt")
_ERROR = re.compile(r"[a-z_]{1,40}")
_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


@dataclass(frozen=True, slots=True)
class Issued:
    """A token for an upstream; `lasts` is in seconds, None where the endpoint does not say."""

    token: str = field(repr=False)
    lasts: float | None


class Failed(Exception):
    """No token came of it; `why` holds nothing that was sent or answered but a status and an error code."""

    def __init__(self, why: str, *, for_everyone: bool = False) -> None:
        """`for_everyone`: another caller's token would meet with the same."""
        super().__init__(why)
        self.why = why
        self.for_everyone = for_everyone


async def ask(client: httpx.AsyncClient, settings: TokenExchange, secret: str, token: str) -> Issued:
    """Return what the endpoint issues for a caller's token; raises Failed."""
    known_as = httpx.BasicAuth(quote_plus(settings.client), quote_plus(secret))  # RFC 6749, section 2.3.1
    try:
        async with (
            asyncio.timeout(PATIENCE),
            client.stream("POST", settings.url, data=form(settings, token), auth=known_as, headers=_PLAIN) as answer,
        ):
            if answer.status_code != 200:
                raise _refused(answer.status_code, await _error_code(answer))
            kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
            if kind != "application/json" or "content-encoding" in answer.headers:
                raise Failed("answered with something else than JSON")
            return issued(await _bounded(answer), token)
    except (httpx.HTTPError, httpx.InvalidURL, OSError, TimeoutError) as error:
        raise Failed(f"cannot be reached ({type(error).__name__})", for_everyone=True) from None


def form(settings: TokenExchange, token: str) -> dict[str, str]:
    """Return the form that asks for another token (RFC 8693, section 2.1)."""
    wanted = {"audience": settings.audience, "resource": settings.resource, "scope": settings.scope}
    return {
        "grant_type": _GRANT,
        "subject_token": token,
        "subject_token_type": _ACCESS_TOKEN,
        "requested_token_type": _ACCESS_TOKEN,
        **{name: value for name, value in wanted.items() if value is not None},
    }


def issued(body: bytes, token: str) -> Issued:
    """Return what an answer's body gives for this token (RFC 8693, section 2.2.1); raises Failed."""
    try:
        answer = parse(body, 8)
    except Malformed:
        raise Failed("answered with something else than JSON") from None
    if not isinstance(answer, dict):
        raise Failed("answered with something else than a JSON object")
    found = answer.get("access_token")
    if not isinstance(found, str) or _TOKEN.fullmatch(found) is None:
        raise Failed("answered without a usable access_token")
    if found == token:
        raise Failed("gave back the caller's own token")
    _is_a_bearer_token(answer)
    return Issued(found, _lifetime(answer))


def _is_a_bearer_token(answer: Mapping[str, Json]) -> None:
    kind = answer.get("token_type")
    if not isinstance(kind, str) or kind.lower() != "bearer" or answer.get("issued_token_type") not in _USABLE_TYPES:
        raise Failed("answered with a token that is no bearer access token (token_type, issued_token_type)")


def _lifetime(answer: Mapping[str, Json]) -> float | None:
    lasts = answer.get("expires_in")
    if lasts is None:
        return None
    if isinstance(lasts, bool) or not isinstance(lasts, int | Decimal) or not 0 < lasts < 1e9:
        raise Failed("answered with a token that lasts for no time (expires_in)")
    return float(lasts)


def _refused(status: int, error: str) -> Failed:
    """A 4xx may be about this caller alone; 429 (RFC 6585) and all the rest are about the endpoint."""
    why = f"answered {status} ({error})" if error else f"answered {status}"
    return Failed(why, for_everyone=not 400 <= status < 500 or status == 429)


async def _error_code(answer: httpx.Response) -> str:
    """Return the error code of a 4xx (RFC 6749, section 5.2), or nothing; it tells the operator what to mend."""
    if not 400 <= answer.status_code < 500:
        return ""
    try:
        async with asyncio.timeout(HINT_PATIENCE):
            found = parse(await _bounded(answer), 8)
    except (httpx.HTTPError, OSError, TimeoutError, Malformed, Failed):
        return ""
    error = found.get("error") if isinstance(found, dict) else None
    return error if isinstance(error, str) and _ERROR.fullmatch(error) else ""


async def _bounded(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in answer.aiter_raw():
        body += chunk
        if len(body) > MAX_SIZE:
            raise Failed("answered with more than is read here")
    return bytes(body)


_PLAIN = {"accept": "application/json", "accept-encoding": "identity"}
