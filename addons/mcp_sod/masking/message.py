"""Applies masks to a whole JSON message; what cannot be masked is not delivered, and of a call not shown."""

import base64
import binascii
import hashlib
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal

from mcp_sod.errors import Malformed, Unavailable, Withheld
from mcp_sod.masking.masks import HIDDEN, CompiledMask, Masks, Suspects, readings
from mcp_sod.wire.replies import STATE, TASKS
from mcp_sod.wire.splice import NAME, splice
from mcp_sod.wire.strict_json import Json, Path, Texts, digits, dumps, parse_text, texts

BUDGET = 0.5  # seconds for one message of the usual size: a slow pattern is limited on each text, but there are many
BUDGET_PER_CHARACTER = 1e-5  # seconds more
NESTED_DEPTH = 3  # how often JSON may stand as text inside JSON
_JSON_BEGINS = re.compile(r"[ \t\r\n]*+[{\[\"]").match
_ENVELOPE: frozenset[Path] = frozenset((name,) for name in ("jsonrpc", "id", "method", "params", "result", "error"))
# What a client must get back unchanged or cannot go on. A secret in one of these is not masked but withheld.
_OPAQUE: frozenset[Path] = frozenset({
    ("jsonrpc",), ("id",), ("method",), ("result", "nextCursor"), ("result", "resultType"),
    ("result", "protocolVersion"), ("params", "progressToken"), ("params", "requestId"), STATE, *TASKS,
})  # fmt: skip


@dataclass(slots=True)
class MaskedMessage:
    """One message being masked, and how often each mask found something.

    A call, which goes on as it came, is masked with `strict=False`: what cannot be masked in it gives way to a marker
    with its digest, so that nobody can keep the rest of his call from the record. Then it is no longer `whole`.
    """

    masks: Masks
    schemas: bool = False  # a tools/list answer: field names in its schemas are not values
    counts: Counter[str] = field(default_factory=Counter)
    until: float = float("inf")  # on the monotonic clock
    strict: bool = True
    per_character: float = BUDGET_PER_CHARACTER
    whole: bool = True

    def text(self, text: str, value: Json, found: Texts | None = None, suspects: Suspects | None = None) -> str:
        """Return the masked text of a message, given with its value; raises Withheld for what cannot be masked.

        `found` and `suspects`: the value's texts and what a sweep over them found, where they are known already.
        """
        if not self.masks:
            return text
        self.until = time.monotonic() + BUDGET + self.per_character * len(text)
        return self.level(text, value, 0, found, suspects)

    def level(
        self, text: str, value: Json, depth: int, found: Texts | None = None, suspects: Suspects | None = None
    ) -> str:
        """Mask one level: the message itself, or JSON that stands as text inside it."""
        found = texts(value) if found is None else found
        suspects = self.masks.concerned(self.masks.sweep.suspects(found.plain()) if suspects is None else suspects)
        if not (suspects or _worth_a_walk(self.masks, found)):
            return text
        walk = _Walk(self, suspects, depth)
        for path, key in found.keys:
            if any(suspect.found_in(key) for suspect in suspects):
                self.must_stay("Something sensitive stands in a place that cannot be masked (a key).")
                walk.changes[*path, NAME] = dumps(walk.masked(key))
        walk.value((), value)
        return splice(text, walk.changes) if walk.changes else text

    def must_stay(self, sentence: str) -> None:
        """Raise Withheld, but for a call: that is merely no longer shown whole."""
        if self.strict:
            raise Withheld(sentence)
        self.whole = False

    def left_out(self, sentence: str, what: str, text: str) -> str:
        """Return the marker for what cannot be masked; raises Withheld where a marker will not do."""
        self.must_stay(sentence)
        return f"[not shown: {what}, sha256:{hashlib.sha256(text.encode()).hexdigest()}]"


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
                self._number(path, digits(value))
            case list():
                for index, item in enumerate(value):
                    self.value((*path, index), item)
            case dict():
                recording = value.get("type") in ("image", "audio")
                for key, item in value.items():
                    if recording and key == "data":
                        self._recording((*path, key), item)
                    else:
                        self._member((*path, key), key, item)

    def _member(self, path: Path, key: str, item: Json) -> None:
        mask = self.message.masks.field(key)
        if mask is not None and item is not None and not self._names_only(path):
            self._field(path, item, mask)
        elif key == "blob" and isinstance(item, str):
            self.changes[path] = dumps(self._blob(path, item))
        else:
            self.value(path, item)

    def _field(self, path: Path, item: Json, mask: CompiledMask) -> None:
        if isinstance(item, dict | list) and not self.message.strict:
            for part, inner in item.items() if isinstance(item, dict) else enumerate(item):
                self._field((*path, part), inner, mask)
        elif item is not None:
            self.message.counts[mask.name] += 1
            self.changes[path] = dumps(mask.marker)

    def _recording(self, path: Path, item: Json) -> None:
        sentence = "The reply holds an image or a recording, which cannot be masked."
        if isinstance(item, str) and _is_base64(item):
            self.changes[path] = dumps(self.message.left_out(sentence, "binary", item))
        else:
            self.message.must_stay(sentence)
            self._member(path, "data", item)

    def _names_only(self, path: Path) -> bool:
        if self.depth > 0:
            return False
        schema = path[:2] == ("result", "tools") and path[3:4] in (("inputSchema",), ("outputSchema",))
        return path in _ENVELOPE or (schema and self.message.schemas)

    def _leaf(self, path: Path, text: str) -> str:
        if self.depth == 0 and path in _OPAQUE:
            if not any(suspect.found_in(text) for suspect in self.suspects):
                return text
            self.message.must_stay("The reply holds something sensitive in a place that cannot be masked.")
        if _may_be_json(text):
            try:
                inner = parse_text(text)
            except Malformed:
                pass  # text that only looks like JSON
            else:
                return self._nested(text, inner)
        return self.masked(text)

    def masked(self, text: str) -> str:
        """Return a text, masked."""
        message, masks = self.message, self.message.masks
        suspects = self.suspects | masks.suspects(text) if "\\" in text else self.suspects
        if not suspects:
            return text
        if time.monotonic() > self.message.until:
            raise Unavailable("The masks took too long over this message.", hint="Simplify their patterns.")
        before = message.counts["hidden"]
        masked = masks.text(text, suspects, message.counts)
        if message.strict or message.counts["hidden"] == before:
            return masked
        masked = masks.text(readings(text)[-1], suspects, message.counts)
        left_out = message.left_out("", "disguised", text)
        return f"{masked} {left_out}" if HIDDEN in masked else masked

    def _number(self, path: Path, number: str) -> None:
        if self.suspects and not (self.depth == 0 and path in _OPAQUE):
            masked = self.masked(number)
            if masked != number:
                self.changes[path] = dumps(masked)

    def _nested(self, text: str, inner: Json) -> str:
        if self.depth == NESTED_DEPTH:
            return self._too_deep(text)
        return self.message.level(text, inner, self.depth + 1)

    def _too_deep(self, text: str) -> str:
        sentence = f"The reply holds JSON inside JSON more than {NESTED_DEPTH} times over."
        return self.message.left_out(sentence, "nested too deep", text)

    def _blob(self, path: Path, blob: str) -> str:
        sentence = "The reply holds binary content, which cannot be masked."
        try:
            text = base64.b64decode(blob, validate=True).decode("utf-8")
        except UnicodeDecodeError:
            return self.message.left_out(sentence, "binary", blob)
        except (binascii.Error, ValueError):  # the latter for letters that are not ASCII
            self.message.must_stay(sentence)
            return self._leaf(path, blob)
        if self.depth == NESTED_DEPTH:
            return self._too_deep(blob)
        masked = self._nested(dumps([text]), [text])
        return base64.b64encode(parse_text(masked)[0].encode()).decode()  # type: ignore[index,union-attr]


def _worth_a_walk(masks: Masks, found: Texts) -> bool:
    """Say whether there may be something to mask although no detector is a suspect."""
    if any(key in ("blob", "data") or masks.field(key) for _, key in found.keys):
        return True
    return any("\\" in leaf or _may_be_json(leaf) for _, leaf in found.leaves)


def _may_be_json(text: str) -> bool:
    return _JSON_BEGINS(text) is not None


def _is_base64(text: str) -> bool:
    try:
        base64.b64decode(text, validate=True)
    except ValueError:
        return False
    return True
