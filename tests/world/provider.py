"""A certified OpenID provider as a process (npm `oidc-provider`), and what clients do with it.

Its packages are pinned by hash in `tests/provider/package-lock.json`, and kept in `.venv/provider`. The lock is made as
the conformance kit's is: it names no registry.
"""

import base64
import hashlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from secrets import token_urlsafe
from typing import Any
from urllib.parse import urlencode, urljoin
from uuid import uuid4

import httpx
import jwt
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from jwt.algorithms import ECAlgorithm

from tests.world.client import raw_http
from tests.world.conformance_kit import Kit
from tests.world.issuer import AUDIENCE
from tests.world.keys import SigningKey
from tests.world.process import ROOT, Process, free_port

OPAQUE = "https://opaque.example"  # the audience whose tokens are opaque
APP = "http://127.0.0.1/landed"  # where people are sent back to
GATEWAY = ("gateway", "the gateway's own secret")  # the client that may ask about tokens
ASKING = {"GATEWAY_SECRET": GATEWAY[1]}
WORD = "nobody's secret"  # of every other client
MACHINES: Mapping[str, Mapping[str, Any]] = {
    "agent": {"groups": ["ci-jobs"]},
    "certified": {"groups": ["ci-jobs"]},  # whose tokens are bound to its certificate
    "stranger": {"groups": ["nobody"]},
}
PEOPLE: Mapping[str, Mapping[str, Any]] = {
    "ada": {"groups": ["mcp-users"], "email": "ada@people.example"},
    "olga": {"groups": ["security-officers"], "email": "olga@people.example"},
    "eve": {"groups": ["nobody"], "email": "eve@people.example"},
}


def thumbprint(raw: bytes) -> str:
    """SHA-256 as tokens and proofs name it: base64url, unpadded."""
    return base64.urlsafe_b64encode(hashlib.sha256(raw).digest()).rstrip(b"=").decode()


@dataclass(frozen=True, slots=True)
class Holder:
    """Someone who holds a key, and proves it (RFC 9449)."""

    key: SigningKey = field(default_factory=lambda: SigningKey.fresh("ES256"))

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half, with its required members alone."""
        return {name: self.key.jwk[name] for name in ("crv", "kty", "x", "y")}

    @property
    def thumbprint(self) -> str:
        """What tokens that are bound to the key name it by (RFC 7638)."""
        return thumbprint(json.dumps(self.jwk, sort_keys=True, separators=(",", ":")).encode())

    def proof(self, method: str, url: str, token: str | None = None, **changed: Any) -> str:
        """A proof for one request; `changed` replaces claims, and with None takes them out."""
        claims: dict[str, Any] = {"jti": uuid4().hex, "htm": method, "htu": url, "iat": int(time.time())}
        if token is not None:
            claims["ath"] = thumbprint(token.encode())
        kept = {name: value for name, value in {**claims, **changed}.items() if value is not None}
        return jwt.encode(kept, self.key.private, algorithm="ES256", headers={"typ": "dpop+jwt", "jwk": self.jwk})


class Provider(Process):
    """The provider on a loopback port; it is its own issuer, so its address stays as it is over restarts.

    Machines are clients of the name in `MACHINES`, and people log in by their name alone. JWTs are for every audience
    but `OPAQUE`; without an audience a token is opaque, too.

    Args:
        folder: Where its keys, its settings and its log are.
        lifetime: Seconds for which access tokens are good.
        nonce: Whether it takes only proofs of possession with a nonce.
    """

    def __init__(self, folder: Path, *, lifetime: int = 300, nonce: bool = False) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.keys: list[SigningKey] = []
        self._keys_file = folder / "keys.json"
        self._http = raw_http()
        settings = folder / "settings.json"
        told = {"issuer": self.url, "port": self.port, "keys": str(self._keys_file), "clients": list(_clients())}
        told |= {"lifetime": lifetime, "nonce": nonce, "opaque": [OPAQUE], "claims": {**MACHINES, **PEOPLE}}
        settings.write_text(json.dumps(told))
        self._write(SigningKey.fresh("ES256"))
        kit = Kit.bring()
        command = [kit.node, brought(kit, "provider") / "provider.mjs", settings]
        super().__init__(command, folder / "provider.log", ports=[self.port], says="listening\n")

    def stop(self, patience: float = 10) -> int | None:
        """Stops it, and lets go of the connections to it."""
        self._http.close()
        self._http = raw_http()
        return super().stop(patience)

    def requests(self, path: str) -> list[str]:
        """The requests for this path so far: method, path and status."""
        return [line for line in self.log.splitlines() if line.split(" ")[1:2] == [path]]

    def token(self, client: str = "agent", audience: str | None = AUDIENCE, *, holder: Holder | None = None,
              certificate: bytes | None = None, nonce: str | None = None) -> str:  # fmt: skip
        """A machine's access token (RFC 6749, section 4.4), bound to a key if someone holds one.

        `certificate` is the client's own, in DER (RFC 8705).
        """
        url = f"{self.url}/token"
        asked = {"grant_type": "client_credentials", "scope": "mcp", **({"resource": audience} if audience else {})}
        headers = {"DPoP": holder.proof("POST", url, nonce=nonce)} if holder else {}
        if certificate:
            headers["X-Client-Certificate"] = base64.b64encode(certificate).decode()
        reply = self._http.post(url, data=asked, headers=headers, auth=(client, WORD))
        if reply.status_code == httpx.codes.BAD_REQUEST and reply.json()["error"] == "use_dpop_nonce" and not nonce:
            given = reply.headers["dpop-nonce"]
            return self.token(client, audience, holder=holder, certificate=certificate, nonce=given)
        return str(reply.raise_for_status().json()["access_token"])

    def persons_token(self, account: str, audience: str = AUDIENCE) -> str:
        """The access token of an app that this person has logged in to (RFC 6749, section 4.1, and RFC 7636)."""
        return self.persons_tokens(account, audience)["access_token"]

    def persons_tokens(self, account: str, audience: str = AUDIENCE) -> dict[str, str]:
        """All that such an app gets: `access_token`, `id_token`, `refresh_token`."""
        verifier = token_urlsafe(32)
        asked = {"client_id": "app", "redirect_uri": APP, "resource": audience}
        challenge = {"code_challenge": thumbprint(verifier.encode()), "code_challenge_method": "S256"}
        wanted = {"response_type": "code", "scope": "openid offline_access mcp", "prompt": "consent"}
        code = self.log_in(f"{self.url}/auth?{urlencode(asked | challenge | wanted)}", account).params["code"]
        asked |= {"grant_type": "authorization_code", "code": code, "code_verifier": verifier}
        return dict(self._http.post(f"{self.url}/token", data=asked).raise_for_status().json())

    def revoke(self, token: str) -> None:
        """Revokes an opaque token of a person's app (RFC 7009)."""
        asked = {"token": token, "client_id": "app"}
        self._http.post(f"{self.url}/token/revocation", data=asked).raise_for_status()

    def about(self, token: str) -> dict[str, Any]:
        """What it says of a token to the gateway (RFC 7662)."""
        reply = self._http.post(f"{self.url}/token/introspection", data={"token": token}, auth=GATEWAY)
        return dict(reply.raise_for_status().json())

    def rotate(self) -> None:
        """Signs with a new key from now on, and still publishes the others."""
        self._write(SigningKey.fresh("ES256"), *self.keys)
        self._reopen()

    def withdraw(self) -> None:
        """Publishes no key but the newest any more."""
        self._write(self.keys[0])
        self._reopen()

    def log_in(self, url: str, account: str) -> httpx.URL:
        """Does what a person does in a browser that was sent there; gives the address that it ends at."""
        with httpx.Client(trust_env=False, timeout=15) as browser:
            reply = browser.get(url)
            while True:
                if reply.is_redirect:
                    here = httpx.URL(urljoin(str(reply.url), reply.headers["location"]))
                    if here.port != self.port:
                        return here
                    reply = browser.get(here)
                else:
                    assert "<form" in reply.text, reply.text
                    reply = browser.post(reply.url, data={"account": account})

    def _write(self, *keys: SigningKey) -> None:
        self.keys = list(keys)
        self._keys_file.write_text(json.dumps({"keys": [_private_jwk(key) for key in keys]}))

    def _reopen(self) -> None:
        self._http.post(f"{self.url}/test/reopen").raise_for_status()


def believed(provider: Provider, *audiences: str, **changed: Any) -> dict[str, Any]:
    """The identity section that believes this provider, by discovery; `changed` adds to what it says of it.

    For opaque tokens the gateway finds its own secret in `ASKING`, which is its environment's.
    """
    asking = {"url": f"{provider.url}/token/introspection", "client": GATEWAY[0], "secret": {"env": "GATEWAY_SECRET"}}
    issuer = {
        "issuer": provider.url,
        "audience": [*audiences] or [AUDIENCE, OPAQUE],
        "keys": "discover",
        "claims": {"groups": "groups", "person": ["email"], "client": "client_id"},
        "machine": {"claim": "gty", "equals": "client-credentials"},
        "introspection": {**asking, "cache": "2s"},
    }
    return {"identity": [issuer | changed]}


def _private_jwk(key: SigningKey) -> dict[str, Any]:
    assert isinstance(key.private, EllipticCurvePrivateKey)
    return {**key.jwk, **ECAlgorithm.to_jwk(key.private, as_dict=True)}


def _clients() -> Iterator[Mapping[str, Any]]:
    """The clients that it knows; others register themselves (RFC 7591)."""
    name, secret = GATEWAY
    silent: Mapping[str, Sequence[str]] = {"redirect_uris": [], "response_types": [], "grant_types": []}
    yield {**silent, "client_id": name, "client_secret": secret}
    machine = {**silent, "client_secret": WORD, "scope": "mcp", "grant_types": ["client_credentials"]}
    for name in MACHINES:
        yield {**machine, "client_id": name, "tls_client_certificate_bound_access_tokens": name == "certified"}
    lasting = {"scope": "openid offline_access mcp", "grant_types": ["authorization_code", "refresh_token"]}
    public = {"token_endpoint_auth_method": "none", "application_type": "native"}
    yield {**public, "client_id": "app", "redirect_uris": [APP], **lasting}


def brought(kit: Kit, name: str) -> Path:
    """The folder with the npm packages that `tests/NAME` pins, brought if they are not there yet, and its scripts."""
    pins = ROOT / "tests" / name
    locked = b"".join((pins / file).read_bytes() for file in ("package.json", "package-lock.json"))
    folder = ROOT / ".venv" / name / hashlib.sha256(locked).hexdigest()[:16]
    if not folder.exists():
        fresh = folder.with_name(f"fresh-{os.getpid()}")
        shutil.copytree(pins, fresh)
        npm: list[str | Path] = [kit.node, kit.npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
        subprocess.run(npm, cwd=fresh, capture_output=True, timeout=300, check=True)
        with suppress(OSError):  # another run was quicker
            fresh.rename(folder)
        shutil.rmtree(fresh, ignore_errors=True)
    for script in pins.glob("*.mjs"):
        shutil.copy(script, folder)
    return folder
