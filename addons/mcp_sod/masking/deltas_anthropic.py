"""Streams of Anthropic's Messages: blocks by index, each begun, continued by deltas, and stopped."""

from collections.abc import Callable
from typing import Final

from mcp_sod.errors import Withheld
from mcp_sod.masking.model_events import Event, Sent, made_event
from mcp_sod.masking.pieces import MOST, Key, Parts
from mcp_sod.wire.strict_json import Json, texts

_MEMBER: Final = {  # where each kind of delta has its text
    "text_delta": "text",
    "thinking_delta": "thinking",
    "input_json_delta": "partial_json",
    "signature_delta": "signature",
    "compaction_delta": "content",
}
_KINDS: Final = {member: kind for kind, member in _MEMBER.items()}
_BEGUN: Final = frozenset({"text", "thinking", "content"})  # of a block: its deltas go on with these
_LAST: Final = frozenset({"message_delta", "message_stop", "error"})


class Blocks:
    """The content blocks of one message."""

    def __init__(self, parts: Parts, deliver: Callable[[Event], str]) -> None:
        """`deliver`: gives the data of a masked event."""
        self._parts = parts
        self._deliver = deliver
        self._begun: set[int] = set()
        self._open: set[int] = set()

    def event(self, kind: str | None, event: Event) -> list[Sent]:
        """Return the events to deliver for this one."""
        name = event.value.get("type")
        if not isinstance(name, str) or kind not in (None, "message", name):
            raise Withheld("The reply has an event of a type that this API does not use.")
        before: list[Sent] = []
        if any(map(_has_content, event.value.items())):
            raise Withheld("The reply has a beginning that was not sent as a block.")
        if name == "content_block_start":
            self._start(event)
        elif name == "content_block_delta":
            self._delta(event)
        elif name == "content_block_stop":
            index = _index(event)
            before = self._rest(index)
            self._open.discard(index)
        elif name in _LAST:
            before = self.done()
        elif "delta" in event.value or "content_block" in event.value:
            raise Withheld("The reply has a delta that is not known here.")
        return [*before, (kind, self._deliver(event))]

    def done(self) -> list[Sent]:
        """Return what is still to be delivered of all blocks."""
        self._open.clear()
        return self._rest()

    def _start(self, event: Event) -> None:
        index, block = _index(event), event.value.get("content_block")
        if index in self._begun or not isinstance(block, dict):
            raise Withheld("A block of the reply begins twice, or is no object.")
        if len(self._begun) >= MOST:
            raise Withheld("There are too many blocks in the reply.")
        if isinstance(block.get("input"), str) and block["input"]:
            raise Withheld("The reply has a beginning that was not sent as a delta.")
        self._begun.add(index)
        self._open.add(index)
        if isinstance(signature := block.get("signature"), str):
            self._parts.opaque((index, "signature"), signature)
        for member in _BEGUN & block.keys():
            if isinstance(block[member], str):
                path = ("content_block", member)
                event.show(path, self._parts.text((index, member), event.take(path)))

    def _delta(self, event: Event) -> None:
        index, delta = _index(event), event.value.get("delta")
        if index not in self._open or not isinstance(delta, dict):
            raise Withheld("A block of the reply goes on before its beginning or after its end.")
        kind = delta.get("type")
        if kind == "citations_delta":  # whole citations, masked as any message
            return
        known = _MEMBER.get(kind) if isinstance(kind, str) else None
        others = {key: value for key, value in delta.items() if key not in ("type", known)}
        if kind == "compaction_delta":
            others.pop("encrypted_content", None)
        if known is None or any(text for _, text in texts(others).leaves):
            raise Withheld("The reply has a delta that is not known here.")
        if isinstance(delta.get(known), str):
            path = ("delta", known)
            event.show(path, self._shown((index, known), event.take(path)))

    def _shown(self, key: Key, piece: str) -> str:
        match key[1]:
            case "partial_json":
                return self._parts.json(key, piece)
            case "signature":
                return self._parts.opaque(key, piece)
            case _:
                return self._parts.text(key, piece)

    def _rest(self, *index: int) -> list[Sent]:
        return [self._extra(key, text) for key, text in self._parts.ended(first=index)]

    def _extra(self, key: Key, text: str) -> Sent:
        """Return an event that shows the rest of one text."""
        index, member = key
        delta: dict[str, Json] = {"type": _KINDS[str(member)], str(member): ""}
        value: dict[str, Json] = {"type": "content_block_delta", "index": index, "delta": delta}
        return "content_block_delta", self._deliver(made_event(value, ("delta", str(member)), text))


def _has_content(member: tuple[str, Json]) -> bool:
    """Say whether it is a message with content, which clients that keep it would join the deltas to."""
    name, value = member
    if name.casefold() != "message" or not isinstance(value, dict):
        return False
    return any(inner for key, inner in value.items() if key.casefold() == "content")


def _index(event: Event) -> int:
    index = event.value.get("index")
    if not isinstance(index, int) or isinstance(index, bool):
        raise Withheld("A block of the reply has no index.")
    return index
