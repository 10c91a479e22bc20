"""Whether an upstream can be reached without the gateway: it is tried as a client would that goes round.

Written on bare connections, since an HTTP client does not tell a port that is shut from a TLS handshake that failed,
goes through whatever proxy the environment names, and takes the first address that works for all of them.
"""

import asyncio
import errno
import json
import os
import socket
import ssl
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Literal
from urllib.parse import urlsplit

from mcp_sod.policy.addresses import address, target
from mcp_sod.policy.upstreams import Speaks

type Verdict = Literal["closed", "guarded", "unknown", "open"]

MAX_HEAD = 16 << 10  # bytes of an answer's head; nothing of its body is read
_AT_ONCE = 16
_WORSE: tuple[Verdict, ...] = ("closed", "guarded", "unknown", "open")
_SHUT = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN,
    errno.EPERM, errno.EACCES,  # this machine's own packet filter says no
}  # fmt: skip
_INITIALIZE = json.dumps({
    "jsonrpc": "2.0", "id": 1, "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "sod", "version": "0"}},
}).encode()  # fmt: skip


@dataclass(frozen=True, slots=True)
class Place:
    """An upstream to try."""

    name: str
    url: str
    speaks: Speaks

    @property
    def shown(self) -> str:
        """The URL without its query, in which people keep keys."""
        return self.url.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of it; `tried` are the addresses, `reason` says why."""

    place: Place
    verdict: Verdict
    reason: str
    tried: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What makes a good verdict worth little, if anything does."""
        if self.verdict == "closed" and any(ip_address(one.partition("%")[0]).is_loopback for one in self.tried):
            return "this address is the machine itself: it says something only where the clients run."
        return ""


async def try_all(places: Sequence[Place], timeout: float, done: Callable[[Outcome], object]) -> list[Outcome]:  # noqa: ASYNC109 (for each of several waits)
    """Try each place, several at once, and tell `done` of each; `timeout`: seconds to connect, and again to answer."""
    few = asyncio.Semaphore(_AT_ONCE)

    async def one(place: Place) -> Outcome:
        async with few:
            outcome = await _try_place(place, timeout)
        done(outcome)
        return outcome

    return await asyncio.gather(*map(one, places))


async def _try_place(place: Place, patience: float) -> Outcome:
    """Try every address of the place: one that is open makes it open."""
    host, port = address(place.url)
    try:
        async with asyncio.timeout(patience):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, TimeoutError, UnicodeError):
        # Not closed: another resolver, or the bare address, may well lead there from here.
        return Outcome(place, "unknown", f"the name {host} is not known here; give its address with --url.")
    addresses = tuple(dict.fromkeys(str(entry[4][0]) for entry in found))
    answers = await asyncio.gather(*(_try_address(place, each, patience) for each in addresses))
    worst, where = max(zip(answers, addresses, strict=True), key=lambda pair: _WORSE.index(pair[0][0]))
    at = f"{where}: " if len(addresses) > 1 else ""
    return Outcome(place, worst[0], f"{at}{worst[1]}", addresses)


async def _try_address(place: Place, where: str, patience: float) -> tuple[Verdict, str]:
    """Return the verdict on one address, and why."""
    try:
        async with asyncio.timeout(patience):
            reader, writer = await asyncio.open_connection(where, address(place.url)[1], limit=MAX_HEAD)
    except TimeoutError:
        return "closed", "no connection in time."
    except OSError as error:
        said = os.strerror(error.errno) if error.errno else type(error).__name__
        return ("closed" if error.errno in _SHUT else "unknown"), f"no connection ({said})."
    try:
        async with asyncio.timeout(patience):
            return _judged(await _status(place, reader, writer))
    except (OSError, TimeoutError, EOFError, ValueError, asyncio.LimitOverrunError):
        return "unknown", "it takes a connection, but gives no HTTP answer to it."
    finally:
        writer.transport.abort()


def _judged(status: int) -> tuple[Verdict, str]:
    if status in (401, 403):
        return "guarded", f"it can be reached, and refuses who comes without a credential ({status})."
    return "open", f"it can be reached, and answers ({status})."


async def _status(place: Place, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> int:
    """Return the status of the answer; raises where there is none that is HTTP."""
    parts = urlsplit(place.url)
    if parts.scheme == "https":
        await writer.start_tls(_any_certificate(), server_hostname=parts.hostname)
    writer.write(_request(place))
    await writer.drain()
    status = 100
    while 100 <= status < 200:  # interim answers (RFC 9110, section 15.2)
        head = await reader.readuntil(b"\r\n\r\n")
        version, _, rest = head.partition(b" ")
        if not version.startswith(b"HTTP/"):
            raise ValueError("no HTTP")
        status = int(rest[:3])
    return status


def _request(place: Place) -> bytes:
    """Return a request that changes nothing and shows no credential: never a call of a tool."""
    parts, path = urlsplit(place.url), target(place.url)
    accept, body = "*/*", b""
    if place.speaks == "mcp":
        accept, body = "application/json, text/event-stream", _INITIALIZE
    elif place.speaks == "mcp-sse":
        accept = "text/event-stream"
    elif place.speaks != "http":
        path = path.rstrip("/") + "/models"
    lines = [f"{'POST' if body else 'GET'} {path} HTTP/1.1", f"Host: {parts.netloc}", f"Accept: {accept}"]
    lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"] if body else []
    return "\r\n".join([*lines, "Connection: close", "", ""]).encode() + body


def _any_certificate() -> ssl.SSLContext:
    """Take whatever certificate there is: the question is whether something answers, and nothing secret is said to it.

    One who goes round would not be stopped by a private authority either.
    """
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
