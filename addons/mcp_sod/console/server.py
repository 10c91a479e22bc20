"""Serves the console on the gateway's own event loop."""

import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from fastapi import FastAPI

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


class Server(uvicorn.Server):
    """A uvicorn that leaves the process's signals to mitmproxy."""

    def __init__(self, app: FastAPI, claimed: socket.socket) -> None:
        """Serve the application on a socket that is bound already."""
        super().__init__(
            uvicorn.Config(app, log_config=None, access_log=False, lifespan="off", timeout_graceful_shutdown=1)
        )
        self._claimed = claimed

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield

    async def run_here(self) -> None:
        """Serve until cancelled."""
        await self.serve([self._claimed])
