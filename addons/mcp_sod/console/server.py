"""Serves the console on the gateway's own event loop."""

import asyncio
import contextlib
import re
import socket
from collections.abc import Iterator
from typing import override

import uvicorn
from fastapi import FastAPI
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mcp_sod.console.connections import MOST, Connection
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
PATIENCE = 10.0  # seconds for a body
QUEUE = 1024  # connections that wait to be taken
_SIGN_ON = re.compile(r"/saml/[^/]+/acs")


class Small:
    """An ASGI application that refuses bodies of more than a vote's size, before anything reads them, and late ones.

    Where people sign on, it is more than a SAML response's.
    """

    def __init__(self, app: ASGIApp) -> None:
        """`app` gets the requests that are small."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Ask the application, or answer 413 or 408; a body whose length is not stated counts as too large."""
        headers = dict(scope.get("headers", ()))
        length = headers.get(b"content-length", b"0")
        most = MAX_SIGN_ON if _SIGN_ON.fullmatch(scope.get("path", "")) else MAX_BODY
        if b"transfer-encoding" in headers or not length.isdigit() or int(length) > most:
            refusal = JSONResponse({"code": "too-large", "error": "No request here is that long.", "hint": ""}, 413)
            await refusal(scope, receive, send)
            return
        try:
            came = await _whole(receive)
        except TimeoutError:
            refusal = JSONResponse(
                {"code": "late", "error": "The request did not come in time.", "hint": ""}, 408, {"connection": "close"}
            )
            await refusal(scope, receive, send)
        else:
            if came is not None:
                await self._app(scope, _again(came, receive), send)


async def _whole(receive: Receive) -> Message | None:
    """Return the whole body as one message, or None once the client has gone; raises TimeoutError."""
    body = bytearray()
    async with asyncio.timeout(PATIENCE):
        while (message := await receive())["type"] == "http.request":
            body += message.get("body", b"")
            if not message.get("more_body", False):
                return {"type": "http.request", "body": bytes(body), "more_body": False}
    return None


def _again(came: Message, receive: Receive) -> Receive:
    """Return what gives this message first."""
    first = [came]

    async def given() -> Message:
        return first.pop() if first else await receive()

    return given


class Server(uvicorn.Server):
    """A uvicorn that leaves the process's signals to mitmproxy."""

    def __init__(self, app: FastAPI, claimed: socket.socket) -> None:
        """Serve the application on a socket that is bound already."""
        super().__init__(uvicorn.Config(
            Small(app), log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1, http=Connection,
            ws="none", limit_concurrency=MOST + 1,
            backlog=MOST // 2,  # taken at once: of each lot, some requests are read before the next can push them out
        ))  # fmt: skip
        self._claimed = claimed

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    @override
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Let more wait at the door than are taken at once."""
        await super().startup(sockets)
        self._claimed.listen(QUEUE)

    async def run_here(self) -> None:
        """Serve until cancelled."""
        await self.serve([self._claimed])
