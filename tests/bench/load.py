"""A client that sends one request after another on each of some connections, and times each answer."""

import asyncio
import time
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figures:
    """What one run showed: requests a second, and percentiles of the answer time in milliseconds."""

    rate: float
    p50: float
    p99: float


def run(port: int, request: bytes, *, connections: int, seconds: float) -> Figures:
    """Sends for some seconds; raises RuntimeError at the first answer that is not a 200 with a result."""
    times = asyncio.run(_run(port, request, connections, seconds))
    ordered = sorted(times)
    p50, p99 = (ordered[int(share * (len(ordered) - 1))] * 1000 for share in (0.5, 0.99))
    return Figures(len(ordered) / seconds, p50, p99)


async def _run(port: int, request: bytes, connections: int, seconds: float) -> list[float]:
    times: list[float] = []
    until = time.perf_counter() + seconds
    async with asyncio.TaskGroup() as tasks:
        for _ in range(connections):
            tasks.create_task(_one(port, request, until, times))
    return times


async def _one(port: int, request: bytes, until: float, times: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while (begin := time.perf_counter()) < until:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0])
        body = await reader.readexactly(length)
        times.append(time.perf_counter() - begin)
        if not head.startswith(b"HTTP/1.1 200") or b'"result"' not in body or b'"isError":true' in body:
            raise RuntimeError(f"not a good answer: {head[:60]!r} {body[:300]!r}")
    writer.close()
    await writer.wait_closed()
