"""An identity provider with freshly made keys, whose tokens can be wrong in one chosen way."""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

from tests.world.flaws import Flaw, sign
from tests.world.keys import Algorithm, SigningKey

AUDIENCE = "https://mcp.example"


class Issuer:
    """Signs tokens, and publishes its keys as `jwks.json` in its folder and, while served, over HTTP."""

    def __init__(self, folder: Path, url: str = "https://login.example") -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.url = url
        self.jwks_file = folder / "jwks.json"
        self.keys: list[SigningKey] = []
        self.status = 200  # what it answers over HTTP; 503 plays an outage
        self.fetched: list[str] = []  # paths asked for over HTTP, in order
        self.rotate()

    @property
    def jwks(self) -> dict[str, Any]:
        """The JSON Web Key Set with every key it stands for."""
        return {"keys": [key.jwk for key in self.keys]}

    def rotate(self, *, keep_old: bool = False) -> None:
        """Makes a new ES256 key and publishes it, alone or beside the old ones."""
        self.keys = [SigningKey.fresh("ES256"), *(self.keys if keep_old else [])]
        self._publish()

    def key(self, algorithm: Algorithm) -> SigningKey:
        """Its newest key of this algorithm, made and published on first demand."""
        found = next((key for key in self.keys if key.algorithm == algorithm), None)
        if found is None:
            found = SigningKey.fresh(algorithm)
            self.keys.append(found)
            self._publish()
        return found

    def token(
        self,
        sub: str,
        *,
        groups: Sequence[str] = (),
        email: str | None = "",
        audience: str | Sequence[str] = AUDIENCE,
        lifetime: float = 300,
        machine: bool = False,
        algorithm: Algorithm = "ES256",
        flaw: Flaw | None = None,
        **claims: Any,
    ) -> str:
        """A signed JWT for `sub`; `flaw` makes one thing about it wrong, `claims` are added as they are.

        A person has an `email` unless it is None: by default, one of `people.example`.
        """
        now = int(time.time())
        payload: dict[str, Any] = {
            "iss": self.url,
            "sub": sub,
            "aud": audience if isinstance(audience, str) else list(audience),
            "iat": now,
            "exp": now + int(lifetime),
            "groups": list(groups),
        }
        if email == "" and not machine:
            email = f"{sub}@people.example"
        if email:
            payload["email"] = email
        if machine:
            payload["gty"] = "client-credentials"
        return sign({**payload, **claims}, self.key(algorithm), flaw)

    @contextmanager
    def serve(self, port: int = 0) -> Iterator[str]:
        """Answers `/jwks.json` and `/.well-known/openid-configuration` on loopback; gives the base URL."""
        server = ThreadingHTTPServer(("127.0.0.1", port), self._handler())
        thread = Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            server.server_close()
            thread.join()

    def _publish(self) -> None:
        fresh = self.jwks_file.with_suffix(".new")
        fresh.write_text(json.dumps(self.jwks, indent=2))
        fresh.replace(self.jwks_file)  # in one step: a reader never sees half a file

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.fetched.append(self.path)
                base = f"http://{self.headers['Host']}"
                pages = {
                    "/jwks.json": issuer.jwks,
                    "/.well-known/openid-configuration": {
                        "issuer": issuer.url,
                        "jwks_uri": f"{base}/jwks.json",
                    },
                }
                body = json.dumps(pages.get(self.path, {})).encode()
                self.send_response(issuer.status if self.path in pages else 404)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Says nothing: `fetched` is the log."""

        return Handler
