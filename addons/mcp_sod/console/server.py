"""Serves the console on the gateway's own event loop."""

import contextlib
import re
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from mcp_sod.errors import StartError


def claim(host: str, port: int) -> socket.socket:
    """Return a socket bound to the console's address, listening once it is served; raises StartError if it is taken."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    claimed = socket.socket(family, socket.SOCK_STREAM)
    claimed.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        claimed.bind((host, port))
    except OSError as error:
        claimed.close()
        raise StartError(
            f"The console cannot listen on {host}:{port}: {error.strerror}.",
            hint="End what uses the port, or change gateway.console in the policy.",
        ) from None
    return claimed


MAX_BODY = 16 * 1024  # bytes: a vote with its reason
MAX_SIGN_ON = 400 * 1024  # bytes: a SAML response as a form has it
_SIGN_ON = re.compile(r"/saml/[^/]+/acs")


class Small:
    """An ASGI application that refuses bodies of more than a vote's size, before anything reads them.

    Where people sign on, it is more than a SAML response's.
    """

    def __init__(self, app: ASGIApp) -> None:
        """`app` gets the requests that are small."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the application, or answer 413; a body whose length is not stated counts as too large."""
        headers = dict(scope.get("headers", ()))
        length = headers.get(b"content-length", b"0")
        most = MAX_SIGN_ON if _SIGN_ON.fullmatch(scope.get("path", "")) else MAX_BODY
        if b"transfer-encoding" in headers or not length.isdigit() or int(length) > most:
            refusal = JSONResponse({"code": "too-large", "error": "No request here is that long.", "hint": ""}, 413)
            await refusal(scope, receive, send)
        else:
            await self._app(scope, receive, send)


class Server(uvicorn.Server):
    """A uvicorn that leaves the process's signals to mitmproxy."""

    def __init__(self, app: FastAPI, claimed: socket.socket) -> None:
        """Serve the application on a socket that is bound already."""
        super().__init__(
            uvicorn.Config(Small(app), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        )
        self._claimed = claimed

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def run_here(self) -> None:
        """Serve until cancelled."""
        await self.serve([self._claimed])
