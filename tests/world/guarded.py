"""An MCP server that refuses whatever did not come through the gateway: it verifies the gateway's assertion.

`python -m tests.world.guarded --port 9000 --data FOLDER --keys URL --issuer … --url …` runs one.
"""

import argparse
import base64
import hashlib
import json
import sys
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import jwt

from tests.world.process import Process, free_port

HEADER = "x-sod-assertion"


def verified(signed: str, request: tuple[str, str, bytes], keys: jwt.PyJWKClient, issuer: str) -> dict[str, Any]:
    """What the gateway says of this very request (method, URL, body); raises jwt.PyJWTError."""
    method, url, body = request
    claims: dict[str, Any] = jwt.decode(
        signed, keys.get_signing_key_from_jwt(signed), ["ES256"], audience=url, issuer=issuer,
        options={"require": ["exp", "iat", "jti", "sub", "htm", "htu", "bod"]},
    )  # fmt: skip
    digest = base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b"=").decode()
    if jwt.get_unverified_header(signed)["typ"] != "sod-assertion+jwt":
        raise jwt.InvalidTokenError("no assertion of the gateway's")
    if (claims["htm"], claims["htu"], claims["bod"]) != (method, url, digest):
        raise jwt.InvalidTokenError("of another request")
    return claims


class Guarded(Process):
    """The server as a process; `arrived` is what it let in, with its claims."""

    def __init__(self, folder: Path, console: str, issuer: str) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/mcp"
        self._file = folder / "arrived.jsonl"
        command = [sys.executable, "-m", "tests.world.guarded", "--port", str(self.port), "--arrived", str(self._file)]
        command += ["--keys", f"{console}/.well-known/jwks.json", "--issuer", issuer, "--url", self.url]
        super().__init__(command, folder / "guarded.log", ports=[self.port], env={"no_proxy": "*"})

    @property
    def arrived(self) -> list[dict[str, Any]]:
        """What it let in, oldest first: `headers`, `body` and `claims`."""
        return [json.loads(line) for line in self._file.read_text().splitlines()] if self._file.exists() else []


def handler(arguments: argparse.Namespace) -> type[BaseHTTPRequestHandler]:
    """Answers whom the gateway vouches for, each assertion once."""
    keys, seen = jwt.PyJWKClient(arguments.keys, lifespan=300), set[str]()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            shown = self.headers.get_all(HEADER, [])
            try:
                if len(shown) != 1:
                    raise jwt.InvalidTokenError("exactly one assertion")
                claims = verified(shown[0], (self.command, arguments.url, body), keys, arguments.issuer)
                if claims["jti"] in seen:
                    raise jwt.InvalidTokenError("seen before")
            except jwt.PyJWTError as error:
                self._answer(403, {"error": str(error)})
                return
            seen.add(claims["jti"])
            with arguments.arrived.open("a") as file:
                line = {"headers": self.headers.items(), "body": body.decode(), "claims": claims}
                file.write(json.dumps(line) + "\n")
            said = {"content": [{"type": "text", "text": f"hello {claims['sub']}"}]}
            self._answer(200, {"jsonrpc": "2.0", "id": json.loads(body)["id"], "result": said})

        def _answer(self, status: int, answer: Mapping[str, Any]) -> None:
            body = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Says nothing: the file of what arrived is the log."""

    return Handler


def main() -> None:
    """Serves until it is told to stop."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--arrived", type=Path, required=True)
    for name in ("--keys", "--issuer", "--url"):
        parser.add_argument(name, required=True)
    arguments = parser.parse_args()
    ThreadingHTTPServer(("127.0.0.1", arguments.port), handler(arguments)).serve_forever()


if __name__ == "__main__":
    main()
