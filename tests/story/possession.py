"""Chapter 8: a token that is bound to a key is worth nothing to whoever has stolen it without the key (RFC 9449)."""

from collections.abc import Generator, Mapping

import httpx
import httpx2

from tests.story.caller import Seen, call
from tests.story.identities import sentence
from tests.story.people import TARA
from tests.story.setting import Setting
from tests.story.telling import Teller, equal, mentions
from tests.world.client import raw_call
from tests.world.dpop import Draft, Key, proof


class Proving(httpx2.Auth):
    """Proves at each request that its sender holds the key; `made` are the proofs, each with its request's method."""

    def __init__(self, token: str, key: Key) -> None:
        self.made: list[tuple[str, str]] = []
        self._token = token
        self._key = key
        self._nonce: str | None = None

    def auth_flow(self, request: httpx2.Request) -> Generator[httpx2.Request, httpx2.Response]:
        """Proves, and once more with the server's nonce if the server asks for one (RFC 9449, section 9)."""
        answer = yield self._proven(request)
        nonce = answer.headers.get("dpop-nonce")
        if nonce is not None:
            self._nonce = nonce
            if answer.status_code == httpx2.codes.UNAUTHORIZED:
                yield self._proven(request)

    def _proven(self, request: httpx2.Request) -> httpx2.Request:
        draft = Draft(claims={"nonce": self._nonce})
        made = proof((request.method, str(request.url)), self._token, self._key, self._key, draft)
        self.made.append((request.method, made))
        request.headers |= {"Authorization": f"DPoP {self._token}", "DPoP": made}
        return request


def stolen_token(setting: Setting, tell: Teller) -> None:
    """Its owner's client, which has the key, passes; the thief, who has not, is refused three times."""
    tell.chapter("A stolen token without its key")
    key = Key.fresh()
    token = setting.token(TARA.bound_to(key.thumbprint))
    client = Proving(token, key)
    _owner(setting, tell, client)
    before = len(setting.bank.calls())
    url = setting.bank.url
    forged = proof(("POST", url), token, thiefs := Key.fresh(), thiefs, Draft())
    seen = next(made for method, made in reversed(client.made) if method == "POST")
    cases = [
        ("as a plain bearer token", {"Authorization": f"Bearer {token}"}, "bound to a DPoP key"),
        ("with a proof by a key of the thief's own", _shown(token, forged), "another key than the token's"),
        ("with a proof of Tara's, seen on its way", _shown(token, seen), "was used before"),
    ]
    for how, headers, reason in cases:
        _thief(setting, tell, f"A thief has her token without her key, and shows it {how}: refused.", headers, reason)
    again = _call(setting, client)
    tell.step(
        "Nothing of the thief's reached the bank, and Tara goes on.",
        f"{len(setting.bank.calls()) - before} call at the bank, Tara's",
        equal("she is let through", again.refused, expected=False),
        equal("calls at the bank", len(setting.bank.calls()), before + 1),
    )


def _owner(setting: Setting, tell: Teller, client: Proving) -> None:
    seen = _call(setting, client)
    proofs = [made for _, made in client.made]
    tell.step(
        "Tara's token is bound to a key in her machine. Her client, the SDK's, proves at each request that it has it.",
        f"{len(seen.structured['result']) if seen.structured else seen.text} customers, {len(proofs)} proofs",
        equal("it is let through", seen.refused, expected=False),
        equal("every proof is another", len(set(proofs)), len(proofs)),
    )


def _thief(setting: Setting, tell: Teller, what: str, headers: Mapping[str, str], reason: str) -> None:
    wire = raw_call(setting.bank.url, "list_customers", headers=headers, proxy=setting.gateway.url)
    said = _said(wire)
    tell.step(
        what,
        f"HTTP {wire.status_code} {said}",
        equal("the status", wire.status_code, 401),
        mentions("the challenge", wire.headers.get("www-authenticate", ""), "DPoP" if "DPoP" in headers else "Bearer"),
        mentions("the reason", said, reason),
    )


def _call(setting: Setting, client: Proving) -> Seen:
    return call(setting.bank.url, "", setting.gateway.url, "list_customers", {}, auth=client)


def _shown(token: str, made: str) -> dict[str, str]:
    return {"Authorization": f"DPoP {token}", "DPoP": made}


def _said(wire: httpx.Response) -> str:
    """What a refusal says, or the beginning of what came in its place."""
    try:
        return sentence(str(wire.json()["error"]["message"]))
    except (ValueError, LookupError, TypeError):
        return wire.text[:200]
