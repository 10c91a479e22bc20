"""Applies masks to a whole JSON message; what cannot be masked is not delivered."""

import base64
import binascii
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

from mcp_sod.errors import Malformed, Unavailable, Withheld
from mcp_sod.masking.masks import Masks, Suspects
from mcp_sod.wire.splice import splice
from mcp_sod.wire.strict_json import Json, Path, Texts, dumps, parse_text, texts

BUDGET = 0.1  # seconds for one message of the usual size: a slow pattern is limited on each text, but there are many
BUDGET_PER_CHARACTER = 1e-5  # seconds more
NESTED_DEPTH = 3  # how often JSON may stand as text inside JSON
_ENVELOPE: frozenset[Path] = frozenset((name,) for name in ("jsonrpc", "id", "method", "params", "result", "error"))
# What a client must get back unchanged or cannot go on. A secret in one of these is not masked but withheld.
_OPAQUE: frozenset[Path] = frozenset({
    ("jsonrpc",), ("id",), ("method",), ("result", "nextCursor"), ("result", "requestState"),
    ("result", "resultType"), ("result", "protocolVersion"), ("params", "progressToken"), ("params", "requestId"),
})  # fmt: skip


@dataclass(slots=True)
class MaskedMessage:
    """One message being masked, and how often each mask found something."""

    masks: Masks
    schemas: bool = False  # a tools/list answer: field names in its schemas are not values
    counts: Counter[str] = field(default_factory=Counter)
    until: float = float("inf")  # on the monotonic clock

    def text(self, text: str, value: Json, found: Texts | None = None, suspects: Suspects | None = None) -> str:
        """Return the masked text of a message, given with its value; raises Withheld for what cannot be masked.

        `found` and `suspects`: the value's texts and what a sweep over them found, where they are known already.
        """
        if not self.masks:
            return text
        self.until = time.monotonic() + BUDGET + BUDGET_PER_CHARACTER * len(text)
        return self.level(text, value, 0, found, suspects)

    def level(
        self, text: str, value: Json, depth: int, found: Texts | None = None, suspects: Suspects | None = None
    ) -> str:
        """Mask one level: the message itself, or JSON that stands as text inside it."""
        found = texts(value) if found is None else found
        suspects = self.masks.concerned(self.masks.sweep.suspects(found.plain()) if suspects is None else suspects)
        if not (suspects or _worth_a_walk(self.masks, found)):
            return text
        if any(suspect.found_in(key) for suspect in suspects for _, key in found.keys):
            raise Withheld("Something sensitive stands in a place that cannot be masked (a key).")
        walk = _Walk(self, suspects, depth)
        walk.value((), value)
        return splice(text, walk.changes) if walk.changes else text


@dataclass(slots=True)
class _Walk:
    """The walk over one level, with the changes that it calls for."""

    message: MaskedMessage
    suspects: Suspects
    depth: int
    changes: dict[Path, str] = field(default_factory=dict)

    def value(self, path: Path, value: Json) -> None:
        match value:
            case str():
                masked = self._leaf(path, value)
                if masked != value:
                    self.changes[path] = dumps(masked)
            case int() | Decimal() if not isinstance(value, bool):
                self._number(path, str(value))
            case list():
                for index, item in enumerate(value):
                    self.value((*path, index), item)
            case dict():
                _no_binary(value)
                for key, item in value.items():
                    self._member((*path, key), key, item)

    def _member(self, path: Path, key: str, item: Json) -> None:
        mask = self.message.masks.field(key)
        if mask is not None and item is not None and not self._names_only(path):
            self.message.counts[mask.name] += 1
            self.changes[path] = dumps(mask.marker)
        elif key == "blob" and isinstance(item, str):
            self.changes[path] = dumps(self._blob(item))
        else:
            self.value(path, item)

    def _names_only(self, path: Path) -> bool:
        if self.depth > 0:
            return False
        schema = path[:2] == ("result", "tools") and path[3:4] in (("inputSchema",), ("outputSchema",))
        return path in _ENVELOPE or (schema and self.message.schemas)

    def _leaf(self, path: Path, text: str) -> str:
        if self.depth == 0 and path in _OPAQUE:
            if any(suspect.found_in(text) for suspect in self.suspects):
                raise Withheld("The reply holds something sensitive in a place that cannot be masked.")
            return text
        if _may_be_json(text):
            try:
                inner = parse_text(text)
            except Malformed:
                pass  # text that only looks like JSON
            else:
                return self._nested(text, inner)
        return self._masked(text) if self.suspects else text

    def _masked(self, text: str) -> str:
        if time.monotonic() > self.message.until:
            raise Unavailable("The masks took too long over this message.", hint="Simplify their patterns.")
        return self.message.masks.text(text, self.suspects, self.message.counts)

    def _number(self, path: Path, digits: str) -> None:
        if self.suspects and not (self.depth == 0 and path in _OPAQUE):
            masked = self._masked(digits)
            if masked != digits:
                self.changes[path] = dumps(masked)

    def _nested(self, text: str, inner: Json) -> str:
        if self.depth == NESTED_DEPTH:
            raise Withheld(f"The reply holds JSON inside JSON more than {NESTED_DEPTH} times over.")
        return self.message.level(text, inner, self.depth + 1)

    def _blob(self, blob: str) -> str:
        try:
            text = base64.b64decode(blob, validate=True).decode("utf-8")
        except (binascii.Error, UnicodeDecodeError):
            raise Withheld("The reply holds binary content, which cannot be masked.") from None
        masked = self._nested(dumps([text]), [text])
        return base64.b64encode(parse_text(masked)[0].encode()).decode()  # type: ignore[index,union-attr]


def _worth_a_walk(masks: Masks, found: Texts) -> bool:
    """Say whether there may be something to mask although no detector is a suspect."""
    if any(key in ("blob", "data") or masks.field(key) for _, key in found.keys):
        return True
    return any(_may_be_json(leaf) for _, leaf in found.leaves)


def _may_be_json(text: str) -> bool:
    return text[:64].lstrip(" \t\r\n")[:1] in ("{", "[", '"')


def _no_binary(value: dict[str, Json]) -> None:
    if value.get("type") in ("image", "audio") and "data" in value:
        raise Withheld("The reply holds an image or a recording, which cannot be masked.")
