"""A client that sends one request after another on each of some connections, and times each answer."""

import asyncio
import time
from dataclasses import dataclass

_LAST = b"\r\n0\r\n\r\n"
_LONGEST = 1 << 22  # bytes of a chunked answer


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run showed: requests a second, and percentiles of the answer time in milliseconds."""

    rate: float
    p50: float
    p99: float


def run(port: int, request: bytes, *, connections: int, seconds: float) -> Figures:
    """Sends for some seconds; raises RuntimeError at the first answer that is not a 200 with a result."""
    began = time.perf_counter()
    ordered = sorted(asyncio.run(load(port, request, connections=connections, seconds=seconds)))
    took = time.perf_counter() - began  # the last answers come after the time is up
    p50, p99 = (ordered[int(share * (len(ordered) - 1))] * 1000 for share in (0.5, 0.99))
    return Figures(len(ordered) / took, p50, p99)


async def load(port: int, request: bytes, *, connections: int, seconds: float) -> list[float]:
    """The same, in a loop that runs already; gives the time of each answer up to its last byte, in seconds."""
    times: list[float] = []
    until = time.perf_counter() + seconds
    try:
        async with asyncio.TaskGroup() as tasks:
            for _ in range(connections):
                tasks.create_task(_one(port, request, until, times))
    except* RuntimeError as failed:
        raise failed.exceptions[0] from None
    return times


async def _one(port: int, request: bytes, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=_LONGEST)
    try:
        while (begin := time.perf_counter()) < until:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            body = await _body(reader, head)
            times.append(time.perf_counter() - begin)
            if not head.startswith(b"HTTP/1.1 200") or b'"result"' not in body or b'"isError":true' in body:
                raise RuntimeError(f"not a good answer: {head[:60]!r} {body[:300]!r}")
    finally:
        writer.close()
    await writer.wait_closed()


async def _body(reader: asyncio.StreamReader, head: bytes) -> bytes:
    """The answer's body, with its chunk sizes where it has them."""
    length = head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]
    return await reader.readexactly(int(length)) if length else await reader.readuntil(_LAST)
