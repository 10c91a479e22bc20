"""Signing on with SAML 2.0 on the console: a browser goes to the provider, and comes back for a token (web SSO)."""

import asyncio
import html
import time
from collections.abc import Callable
from typing import Protocol
from urllib.parse import parse_qsl

from fastapi import APIRouter, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response

from mcp_sod.contracts import Journal
from mcp_sod.errors import Refusal, SodError, Unauthenticated, Unavailable
from mcp_sod.exchange import cut
from mcp_sod.identity.assertions import Assertion
from mcp_sod.identity.authn_requests import PATIENCE, Requests, address
from mcp_sod.identity.minting import Mint, Minted
from mcp_sod.identity.saml import assertion_of
from mcp_sod.identity.used_assertions import UsedAssertions
from mcp_sod.policy.issuers import Saml
from mcp_sod.policy.policy import Policy

AT_ONCE = 2  # responses that are verified at the same time
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class SignOnBack(Protocol):
    """What signing on needs of the running gateway."""

    @property
    def policy(self) -> Policy:
        """The policy of the moment."""

    @property
    def journal(self) -> Journal:
        """Where records go."""

    @property
    def mint(self) -> Mint:
        """Who makes tokens."""

    @property
    def used_assertions(self) -> UsedAssertions:
        """Which assertions were used."""


def saml_router(back: SignOnBack, clock: Callable[[], float] = time.time) -> APIRouter:
    """Return the console's paths for signing on."""
    router = APIRouter()
    requests, turns = Requests(), asyncio.Semaphore(AT_ONCE)

    @router.get("/saml/{name}")
    async def begin(name: str) -> Response:
        """Send the browser to the provider, with a request that only this browser can bring the answer to."""
        saml = back.policy.document.saml.get(name)
        if saml is None:
            return _unknown()
        now = clock()
        request, shown = requests.begin(name, now)
        answer = RedirectResponse(address(saml, request, now), 302, _HEADERS)
        _set_cookie(answer, name, saml, shown, PATIENCE)
        return answer

    @router.post("/saml/{name}/acs")
    async def finish(name: str, request: Request) -> Response:
        """Take the provider's response, and give a token for it."""
        policy = back.policy
        saml = policy.document.saml.get(name)
        if saml is None:
            return _unknown()
        try:
            response = _response(request, await request.body())
            async with turns:
                now = clock()  # not before: a body may take hours to come
                asked = requests.asked(name, request.cookies.get(_cookie(name, saml)), now)
                assertion = await asyncio.to_thread(_verified, response, policy, saml, now, asked)
            minted = back.mint.token(assertion, saml, now)
            await back.used_assertions.use(saml.entity, assertion, now)
        except Exception as error:  # noqa: BLE001 (an edge: whatever goes wrong is a refusal, on record)
            refusal = _refusal(error)
            await _record_refusal(back, refusal, policy, name)
            raise refusal from None
        await back.journal.write("signed on", policy=policy.digest, **_facts(name, saml, assertion, minted))
        answer = _shown(request, saml, assertion, minted)
        _set_cookie(answer, name, saml, "", 0)
        return answer

    return router


def _verified(response: str, policy: Policy, saml: Saml, now: float, asked: str | None) -> Assertion:
    try:
        certificate = (policy.base / saml.certificate).read_bytes()
    except OSError as error:
        raise Unavailable("The identity provider's certificate cannot be read.",
                          operator=f"{saml.certificate}: {error.strerror}.") from None  # fmt: skip
    return assertion_of(response, saml, certificate, now=now, asked=asked)


def _response(request: Request, body: bytes) -> str:
    """Return the one `SAMLResponse` of a form; `RelayState` and whatever else stands there decides nothing."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        fields = parse_qsl(body.decode("ascii"), strict_parsing=True, max_num_fields=8) if body else []
    except ValueError:
        fields = []
    found = [value for field, value in fields if field == "SAMLResponse"]
    if kind != "application/x-www-form-urlencoded" or len(found) != 1:
        raise Unauthenticated("The form must hold exactly one SAMLResponse.", token_given=False)
    return found[0]


def _refusal(error: Exception) -> SodError:
    """Return what stopped a sign-on, as an error whose text is safe to show: whatever goes wrong gives no token."""
    return error if isinstance(error, SodError) else Unavailable("The gateway failed on this response and refused it.")


async def _record_refusal(back: SignOnBack, refusal: SodError, policy: Policy, name: str) -> None:
    event = refusal.event if isinstance(refusal, Refusal) else "rejected"
    await back.journal.write(
        event, method="saml", target=name, code=refusal.code, reason=refusal.told, policy=policy.digest
    )


def _facts(name: str, saml: Saml, assertion: Assertion, minted: Minted) -> dict[str, object]:
    principal = {
        "issuer": saml.entity,
        "subject": cut(assertion.subject),
        "person": sorted(map(cut, assertion.person)),
        "groups": sorted(map(cut, assertion.groups)),
        "kind": "human",
    }
    return {"method": "saml", "target": name, "principal": principal, "token": minted.id, "expires": minted.expires}


def _cookie(name: str, saml: Saml) -> str:
    """Return the cookie's name: over TLS one that no other host can set (RFC 6265bis, section 4.1.3.2)."""
    return f"__Host-sod-saml-{name}" if saml.acs.startswith("https:") else f"sod-saml-{name}"


def _set_cookie(answer: Response, name: str, saml: Saml, value: str, seconds: int) -> None:
    """Set it so that it comes with the provider's cross-site POST.

    Plain http stands only for loopback, where a browser keeps no cookie that is `Secure`, and the provider is a
    neighbour on the same host: same site.
    """
    secure = saml.acs.startswith("https:")
    answer.set_cookie(
        _cookie(name, saml), value, max_age=seconds, path="/", secure=secure, httponly=True,
        samesite="none" if secure else "lax",
    )  # fmt: skip


def _shown(request: Request, saml: Saml, assertion: Assertion, minted: Minted) -> Response:
    if "application/json" in request.headers.get("accept", ""):
        told = {"token": minted.token, "expires": minted.expires, "issuer": saml.entity, "subject": assertion.subject}
        return JSONResponse(told, headers=_HEADERS)
    until = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(minted.expires))
    page = (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Signed on</title>'
        f"<h1>Signed on</h1><p>{html.escape(assertion.subject)}, until {until}. The token, for this gateway alone:</p>"
        f"<textarea readonly rows=12 cols=80>{html.escape(minted.token)}</textarea></html>"
    )
    return HTMLResponse(page, headers=_HEADERS)


def _unknown() -> Response:
    return JSONResponse({"code": "unlisted", "error": "There is no such provider.", "hint": ""}, 404, _HEADERS)
