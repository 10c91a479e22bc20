"""Opaque names that servers give out, bound to who got them.

A server takes a session id, an event id, a request state or a task id from whoever shows it. So each leaves the gateway
with a tag that only the gateway can make, for one principal at one upstream, and comes back in only from that
principal. Nothing has to be remembered: a restart, or a second gateway process with the same key, knows its own tags.
"""

import base64
import hashlib
import hmac
import re
from dataclasses import dataclass
from typing import Literal

from mcp_sod.errors import Foreign, ForeignSession

type Kind = Literal["session", "event", "state", "task", "endpoint"]

_TAG_BYTES = 16
_TAGGED = re.compile(r"(?s)(.+)\.([A-Za-z0-9_-]{22})")
_WORDS = {
    "session": "This session",
    "event": "This event id",
    "state": "This request state",
    "task": "This task",
    "endpoint": "This endpoint",
}


@dataclass(frozen=True, slots=True)
class Owner:
    """One principal at one upstream; `key` is theirs alone."""

    key: bytes

    @classmethod
    def of(cls, key: bytes, *who: str) -> "Owner":
        """Return the owner told by these texts (upstream, account, client, actors); `key` is the gateway's."""
        return cls(hmac.digest(key, _joined(who), hashlib.sha256))

    def tagged(self, kind: Kind, value: str, within: str = "") -> str:
        """Return the value as its owner gets it; `within` is the session it belongs to."""
        return f"{value}.{self._tag(kind, value, within)}"

    def own(self, kind: Kind, value: str, within: str = "") -> str:
        """Return the value as the server knows it; raises Foreign where this owner did not get it from here."""
        parts = _TAGGED.fullmatch(value)
        if parts is None or not hmac.compare_digest(parts[2], self._tag(kind, parts[1], within)):
            lost = ForeignSession if kind in ("session", "endpoint") else Foreign
            raise lost(f"{_WORDS[kind]} is not known here, or is someone else's.", hint="Begin a new one.")
        return parts[1]

    def _tag(self, kind: Kind, value: str, within: str) -> str:
        mac = hmac.digest(self.key, _joined((kind, within, value)), hashlib.sha256)
        return base64.urlsafe_b64encode(mac[:_TAG_BYTES]).decode().rstrip("=")


def untagged(value: str) -> str | None:
    """Return what a value would be without its tag, unverified; None where it has none."""
    parts = _TAGGED.fullmatch(value)
    return None if parts is None else parts[1]


def _joined(parts: tuple[str, ...]) -> bytes:
    """Return texts as bytes from which they can be told again: each after its length."""
    coded = [part.encode("utf-8", "surrogatepass") for part in parts]
    return b"".join(b"%d:%b" % (len(part), part) for part in coded)
