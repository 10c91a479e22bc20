"""What the events of all model APIs have in common: texts are taken out, the rest is masked as a message is."""

from collections import Counter
from dataclasses import dataclass, field
from typing import Final

from mcp_sod.errors import Malformed, Withheld
from mcp_sod.masking.masks import Masks
from mcp_sod.masking.message import MaskedMessage
from mcp_sod.masking.tail import SLOW
from mcp_sod.wire.splice import splice
from mcp_sod.wire.strict_json import Json, Path, dumps, parse_text, texts

type Sent = tuple[str | None, str]  # an event's type and its data

# What a client must get back unchanged, or could not go on with.
_OPAQUE: Final = frozenset({
    "id", "item_id", "call_id", "tool_call_id", "tool_use_id", "previous_response_id", "signature",
    "encrypted_content", "encrypted_index", "encrypted_stdout",
})  # fmt: skip
_BINARY: Final = frozenset({"b64_json", "partial_image_b64"})
_BINARY_IN: Final = {"result": "image_generation_call", "delta": "response.audio.delta"}
MOST_SLOW: Final = 64 * 1024  # characters of one event that are read one by one, on the event loop
_FREE: Final = "input"  # a tool's arguments, which may use any name


@dataclass(slots=True)
class Event:
    """One event being masked: `value` is `text` parsed, and what is taken out of it is put back masked.

    `changes`: what else is written otherwise, as JSON.
    """

    text: str
    value: dict[str, Json]
    shown: dict[Path, str] = field(default_factory=dict)
    changes: dict[Path, str] = field(default_factory=dict)
    slow: int = 0

    def take(self, path: Path) -> str:
        """Take a text out; it has to be given back by `show`. Raises Withheld for more than can be read in time."""
        *above, last = path
        holder: Json = self.value
        for part in above:
            holder = holder[part]  # type: ignore[index]
        piece: str = holder[last]  # type: ignore[index,assignment]
        holder[last] = ""  # type: ignore[index]
        self.shown[path] = ""
        self.slow += len(SLOW.findall(piece))
        if self.slow > MOST_SLOW:
            raise Withheld("An event of the reply has too much text that is slow to read.")
        return piece

    def show(self, path: Path, text: str) -> None:
        """Put what may be shown where a text was taken out."""
        self.shown[path] = text


def read_event(data: str, max_depth: int) -> Event:
    """Return an event's data, parsed; raises Withheld for what is no JSON object."""
    try:
        value = parse_text(data, max_depth)
    except Malformed as error:
        raise Withheld(f"The upstream's reply was not understood: {error.sentence}") from None
    if not isinstance(value, dict):
        raise Withheld("An event of the reply is not a JSON object.")
    return Event(data, value)


def made_event(value: dict[str, Json], path: Path, text: str) -> Event:
    """Return an event of our own, which shows a text at the path where `value` has an empty one."""
    return Event(dumps(value), value, {path: text})


def masked_event(event: Event, masks: Masks, counts: Counter[str]) -> str:
    """Return the data of the event: the texts that were put back, and all else masked as a message is."""
    if any(masks.field(part) for path in event.shown for part in path if isinstance(part, str)):
        raise Withheld("A mask takes whole a field that this stream's text comes in.")
    nulled = _without_logprobs(event.value)
    found = texts(event.value)
    suspects = masks.sweep.suspects(found.plain())
    for path, leaf in found.leaves:
        if leaf and _FREE not in path[:-1]:
            _deliverable(path, leaf, event.value, masks)
    masked = MaskedMessage(masks, counts=counts).text(event.text, event.value, found, suspects)
    changes = {path: dumps(text) for path, text in event.shown.items()} | nulled | event.changes
    return splice(masked, changes) if changes else masked


def _without_logprobs(value: Json) -> dict[Path, str]:
    """Take out the probabilities, which repeat a reply's text token by token, and return the changes that do so."""
    changes: dict[Path, str] = {}
    todo: list[tuple[Path, Json]] = [((), value)]
    while todo:
        where, item = todo.pop()
        if isinstance(item, list):
            todo.extend(((*where, index), inner) for index, inner in enumerate(item))
        elif isinstance(item, dict):
            for key, inner in item.items():
                if key == "logprobs" and isinstance(inner, list | dict):
                    changes[*where, key] = "[]" if isinstance(inner, list) else "null"
                    item[key] = None
                elif key != _FREE or isinstance(inner, list):
                    todo.append(((*where, key), inner))
    return changes


def _deliverable(path: Path, leaf: str, value: Json, masks: Masks) -> None:
    key = path[-1]
    if key in _OPAQUE and masks.redacted(leaf) != leaf:
        raise Withheld("The reply holds something sensitive in a place that cannot be masked.")
    if key in _BINARY or (key == "data" and path[-2:-1] == ("audio",)):
        raise Withheld("The reply holds an image or a recording, which cannot be masked.")
    if isinstance(key, str) and key in _BINARY_IN:
        for part in path[:-1]:
            value = value[part]  # type: ignore[index]
        if isinstance(value, dict) and value.get("type") == _BINARY_IN[key]:
            raise Withheld("The reply holds an image or a recording, which cannot be masked.")
