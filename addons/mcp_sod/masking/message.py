"""Applies masks to a whole JSON message; what cannot be masked is not delivered."""

import base64
import binascii
from collections import Counter
from dataclasses import dataclass, field

from mcp_sod.errors import Malformed, Withheld
from mcp_sod.masking.masks import Masks
from mcp_sod.wire.splice import splice
from mcp_sod.wire.strict_json import Json, Path, dumps, parse_text

NESTED_DEPTH = 3  # how often JSON may stand as text inside JSON
_ENVELOPE: frozenset[Path] = frozenset((name,) for name in ("jsonrpc", "id", "method", "params", "result", "error"))
# What a client must get back unchanged or cannot go on. A secret in one of these is not masked but withheld.
_OPAQUE: frozenset[Path] = frozenset({
    ("jsonrpc",), ("id",), ("method",), ("result", "nextCursor"), ("result", "requestState"),
    ("result", "resultType"), ("result", "protocolVersion"), ("params", "progressToken"), ("params", "requestId"),
})  # fmt: skip


@dataclass(slots=True)
class MaskedMessage:
    """One message being masked: the changes so far, and how often each mask found something."""

    masks: Masks
    schemas: bool = False  # a tools/list answer: field names in its schemas are not values
    counts: Counter[str] = field(default_factory=Counter)

    def message(self, text: str, value: Json) -> str:
        """Return the masked text of a message; raises Withheld for what cannot be masked."""
        return self._masked(text, value, 0) if self.masks else text

    def _masked(self, text: str, value: Json, depth: int) -> str:
        changes: dict[Path, str] = {}
        self._walk((), value, changes, depth)
        return splice(text, changes) if changes else text

    def _walk(self, path: Path, value: Json, changes: dict[Path, str], depth: int) -> None:
        match value:
            case str():
                masked = self._leaf(path, value, depth)
                if masked != value:
                    changes[path] = dumps(masked)
            case list():
                for index, item in enumerate(value):
                    self._walk((*path, index), item, changes, depth)
            case dict():
                _no_binary(value)
                for key, item in value.items():
                    self._member((*path, key), key, item, changes, depth)

    def _member(self, path: Path, key: str, item: Json, changes: dict[Path, str], depth: int) -> None:
        if self.masks.finds(key):
            raise Withheld("The reply holds something sensitive in a place that cannot be masked (a key).")
        mask = self.masks.field(key)
        if mask is None or item is None or (depth == 0 and self._names_only(path)):
            if key == "blob" and isinstance(item, str):
                changes[path] = dumps(self._blob(item, depth))
            else:
                self._walk(path, item, changes, depth)
        else:
            self.counts[mask.name] += 1
            changes[path] = dumps(mask.marker)

    def _names_only(self, path: Path) -> bool:
        if path in _ENVELOPE:
            return True
        return self.schemas and path[:2] == ("result", "tools") and path[3:4] in (("inputSchema",), ("outputSchema",))

    def _leaf(self, path: Path, text: str, depth: int) -> str:
        if depth == 0 and path in _OPAQUE:
            if self.masks.finds(text):
                raise Withheld("The reply holds something sensitive in a place that cannot be masked.")
            return text
        if text.lstrip(" \t\r\n")[:1] in ("{", "["):
            try:
                inner = parse_text(text)
            except Malformed:
                return self.masks.text(text, self.counts)
            if depth == NESTED_DEPTH:
                raise Withheld(f"The reply holds JSON inside JSON more than {NESTED_DEPTH} times over.")
            return self._masked(text, inner, depth + 1)
        return self.masks.text(text, self.counts)

    def _blob(self, blob: str, depth: int) -> str:
        try:
            text = base64.b64decode(blob, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise Withheld("The reply holds binary content, which cannot be masked.") from None
        masked = self._leaf((), text, max(depth, 1))
        return blob if masked == text else base64.b64encode(masked.encode()).decode()


def _no_binary(value: dict[str, Json]) -> None:
    if value.get("type") in ("image", "audio") and "data" in value:
        raise Withheld("The reply holds an image or a recording, which cannot be masked.")
