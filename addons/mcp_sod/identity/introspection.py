"""Asks an issuer whether a token holds (RFC 7662)."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

from mcp_sod.errors import Unauthenticated, Unavailable
from mcp_sod.identity.web import Web, WebError
from mcp_sod.policy.issuers import Introspection, Issuer
from mcp_sod.policy.secrets import read_secret

MOST = 16  # questions at once, in each lane
QUEUE = 64  # that wait for their turn, in each lane
PATIENCE = 2.0  # seconds for which they do


class Lane:
    """Questions of one kind: a few at once, a few more that wait, and no others."""

    def __init__(self) -> None:
        """Begin with none."""
        self._room = asyncio.Semaphore(MOST)
        self._waiting = 0

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Have a question's turn; raises Unavailable where it does not come soon."""
        if self._room.locked() and self._waiting >= QUEUE:
            raise _crowded()
        self._waiting += 1
        try:
            async with asyncio.timeout(PATIENCE):
                await self._room.acquire()
        except TimeoutError:
            raise _crowded() from None
        finally:
            self._waiting -= 1
        try:
            yield
        finally:
            self._room.release()


class Desk:
    """Asks for one issuer. What nobody has vouched for yet does not keep known tokens waiting."""

    def __init__(self, issuer: Issuer, rules: Introspection, base: Path, web: Web) -> None:
        """`base`: the folder that a relative path of the secret starts from."""
        self._issuer = issuer
        self._rules = rules
        self._base = base
        self._web = web
        self._known, self._unknown = Lane(), Lane()

    async def claims(self, token: str, *, known: bool = False) -> Mapping[str, object]:
        """Return what the issuer says of a token; raises Unauthenticated for one that does not hold, Unavailable.

        `known`: it held before, or is signed by the issuer.
        """
        secret = read_secret(self._base, self._rules.secret, "the identity provider")
        form = {"token": token, "token_type_hint": "access_token"}
        try:
            async with (self._known if known else self._unknown).turn():
                said = await self._web.post(self._rules.url, form, (self._rules.client, secret))
        except WebError as error:
            raise Unavailable("The identity provider cannot be asked about the token.",
                              operator=f"{self._rules.url} gave {error}.") from None  # fmt: skip
        if said.get("active") is not True:
            raise Unauthenticated("The token's issuer says that it does not hold.")
        _is_for_us(said, self._issuer)
        # A client's own token has no resource owner, so providers leave `sub` out (RFC 7662: optional). In signed ones
        # it is then the client (RFC 9068, section 2.2), and so it is here.
        return {"sub": said["client_id"], **said} if "client_id" in said else said


def _crowded() -> Unavailable:
    return Unavailable("There are too many tokens to ask the identity provider about.", hint="Try again in a moment.")


def _is_for_us(said: Mapping[str, object], issuer: Issuer) -> None:
    """Check what a signed token would have been checked for (RFC 7662, section 4)."""
    audience = said.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if not any(isinstance(one, str) and one in issuer.audience for one in named):
        raise Unauthenticated("The token is meant for another audience.")
    if said.get("iss", issuer.issuer) != issuer.issuer:
        raise Unauthenticated("The token comes from an issuer that is not believed here.")
    if said.get("token_type", "Bearer") not in ("Bearer", "bearer", "DPoP", "access_token"):
        raise Unauthenticated("The token is not an access token (token_type).")
    begins = said.get("nbf", 0)
    if not (isinstance(begins, int | float) and begins <= time.time() + issuer.leeway):
        raise Unauthenticated("The token is not valid yet.")
