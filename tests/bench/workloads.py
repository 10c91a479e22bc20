"""What the bench sends, and what it gets for it."""

import argparse
import json
from dataclasses import dataclass
from typing import Final

WORDS: Final = "which customers in the northern region have open orders this month "
EVENTS: Final = "events"
STREAMED: Final = "watch"  # the tool whose calls the upstream answers with events


@dataclass(frozen=True, slots=True)
class Workload:
    """One kind of call: how large its body is, in bytes, and which tool it calls."""

    title: str
    size: int = 1024
    tool: str = "search"

    @classmethod
    def named(cls, word: str) -> "Workload":
        """The workload of a word of the command line: `16KB`, or `events`."""
        if word == EVENTS:
            return cls("1 KB tools/call, 20 events back", tool=STREAMED)
        number = word.upper().removesuffix("KB")
        if not (number.isascii() and number.isdigit() and 1 <= int(number) <= 1024):
            raise argparse.ArgumentTypeError(f"{word!r} is neither 1KB to 1024KB nor {EVENTS}")
        return cls(f"{int(number)} KB tools/call", int(number) * 1024)

    def request(self, target: str, upstream_port: int, token: str) -> bytes:
        """One `tools/call`, as it goes over the wire."""
        blank = self.size - len(self._call(""))
        body = self._call((WORDS * (blank // len(WORDS) + 1))[:blank])
        head = (
            f"POST {target} HTTP/1.1\r\nHost: 127.0.0.1:{upstream_port}\r\nContent-Type: application/json\r\n"
            f"Accept: application/json, text/event-stream\r\nAuthorization: Bearer {token}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    def _call(self, query: str) -> bytes:
        params = {"name": self.tool, "arguments": {"query": query, "limit": 10, "fields": ["name", "city"]}}
        return json.dumps({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).encode()


DEFAULT: Final = ("1KB", "16KB", "256KB", EVENTS)
