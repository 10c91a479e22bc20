"""Streams of OpenAI's Responses: `response.….delta` by output and part, each text once more in its `….done`."""

from collections.abc import Callable
from typing import Final

from mcp_sod.errors import Withheld
from mcp_sod.masking.model_events import Event, Sent, made_event
from mcp_sod.masking.pieces import MOST, Key, Parts
from mcp_sod.wire.strict_json import Json

_TEXTS: Final = frozenset({
    "response.output_text", "response.refusal", "response.reasoning_text", "response.reasoning_summary_text",
    "response.code_interpreter_call_code", "response.custom_tool_call_input", "response.shell_call_command",
    "response.apply_patch_call_operation_diff",
})  # fmt: skip
_ARGUMENTS: Final = frozenset({"response.function_call_arguments", "response.mcp_call_arguments"})
_OUTPUT: Final = "response.shell_call_output_content"  # its delta is an object
_PLACES: Final = ("output_index", "content_index", "summary_index", "command_index")
_GROW: Final = frozenset({"text", "refusal", "arguments", "input", "code", "command", "diff"})  # begun by `added`
_LAST: Final = frozenset({
    "response.completed", "response.incomplete", "response.failed", "response.cancelled", "error",
})  # fmt: skip
_LONGEST: Final = 512  # characters of an id that our own events repeat


class Items:
    """The output items of one response."""

    def __init__(self, parts: Parts, deliver: Callable[[Event], str]) -> None:
        """`deliver`: gives the data of a masked event."""
        self._parts = parts
        self._deliver = deliver
        self._like: dict[Key, tuple[str | None, dict[str, Json]]] = {}  # the last delta of each text, without its text
        self._given: set[tuple[Json, ...]] = set()  # items and places that had text before any delta
        self._over = False
        self._next = 0  # the number of the next event
        self._more = 0  # events of our own

    def event(self, kind: str | None, event: Event) -> list[Sent]:
        """Return the events to deliver for this one."""
        name = event.value.get("type")
        if not isinstance(name, str) or kind not in (None, "message", name):
            raise Withheld("The reply has an event of a type that this API does not use.")
        stem, _, last = name.rpartition(".")
        before: list[Sent] = []
        if name not in _LAST and any(map(_has_output, event.value.items())):
            raise Withheld("The reply has a beginning that was not sent as a delta.")
        if self._over and last in ("delta", "added"):
            raise Withheld("The reply goes on after its end.")
        if last == "delta":
            self._delta(kind, event, stem)
        elif isinstance(event.value.get("delta"), str):
            raise Withheld("The reply has a delta that is not known here.")
        elif last == "added":
            self._added(event)
        elif last == "done" or name in _LAST:
            known = stem in _TEXTS or stem in _ARGUMENTS or stem == _OUTPUT
            before = self._rest(event, stem if known else None, everything=name in _LAST)
            self._over = self._over or name in _LAST
        self._number(event)
        return [*before, (kind, self._deliver(event))]

    def done(self) -> list[Sent]:
        """Return what is still to be delivered."""
        return self._rest(None, None, everything=True)

    def _delta(self, kind: str | None, event: Event, stem: str) -> None:
        delta = event.value.get("delta")
        members = delta if isinstance(delta, dict) and stem == _OUTPUT else {"": delta}
        for member, piece in members.items():
            if piece is None:
                continue
            known = member in ("stdout", "stderr") if stem == _OUTPUT else stem in _TEXTS | _ARGUMENTS
            if not known or not isinstance(piece, str):
                raise Withheld("The reply has a delta that is not known here.")
            places = _places(event.value)
            if piece and (places in self._given or places[:1] in self._given):
                raise Withheld("A text of the reply has a beginning that was not sent as a delta.")
            key: Key = (places[0], stem, member, *places[1:])
            path = ("delta", member) if member else ("delta",)
            taken = event.take(path)
            event.show(path, self._parts.json(key, taken) if stem in _ARGUMENTS else self._parts.text(key, taken))
            if not piece:
                continue
            like: dict[str, Json] = {name: event.value[name] for name in ("type", *_PLACES) if name in event.value}
            like |= {"item_id": _item_id(event)} if isinstance(event.value.get("item_id"), str) else {}
            like |= {"logprobs": []} if "logprobs" in event.value else {}
            self._like[key] = kind, like | {"delta": {member: ""} if member else ""}

    def _added(self, event: Event) -> None:
        """Remember a text that begins outside the deltas: clients join the two, and no mask would see that."""
        todo: list[Json] = [event.value.get("item"), event.value.get("part")]
        todo.append({key: event.value.get(key) for key in _GROW})
        while todo:
            value = todo.pop()
            if isinstance(value, list):
                todo.extend(value)
            elif isinstance(value, dict):
                todo.extend(value.values())
                if any(isinstance(text := value.get(key), str) and text for key in _GROW):
                    places = _places(event.value)
                    self._given.add(places[:1] if "item" in event.value else places)
        if len(self._given) > MOST:
            raise Withheld("There are too many items in the reply.")

    def _rest(self, event: Event | None, stem: str | None, *, everything: bool) -> list[Sent]:
        if everything or event is None or (stem is None and event.value.get("output_index") is None):
            return [self._extra(event, key, text) for key, text in self._parts.ended()]
        first, *others = _places(event.value)
        there = [(at, place) for at, place in enumerate(others, start=3) if place is not None]

        def wanted(key: Key) -> bool:
            return (stem is None or key[1] == stem) and all(key[at] == place for at, place in there)

        return [self._extra(event, key, text) for key, text in self._parts.ended(wanted, first=(first,))]

    def _extra(self, event: Event | None, key: Key, text: str) -> Sent:
        kind, like = self._like.pop(key)
        number = event.value.get("sequence_number") if event is not None else None
        like["sequence_number"] = number + self._more if isinstance(number, int) else self._next
        self._more += 1
        self._next += 1
        path = ("delta", key[2]) if key[2] else ("delta",)
        return kind, self._deliver(made_event(like, path, text))

    def _number(self, event: Event) -> None:
        """Count our own events: clients put events in order by their numbers."""
        number = event.value.get("sequence_number")
        if isinstance(number, int):
            self._next = number + self._more + 1
            if self._more:
                event.changes["sequence_number",] = str(number + self._more)


def _has_output(member: tuple[str, Json]) -> bool:
    """Say whether it is a response with output, which clients that keep it would join the deltas to."""
    name, value = member
    return name.casefold() == "response" and isinstance(value, dict) and _any_in(value, "output")


def _any_in(value: dict[str, Json], name: str) -> bool:
    return any(inner for key, inner in value.items() if key.casefold() == name)


def _item_id(event: Event) -> Json:
    item = event.value["item_id"]
    if isinstance(item, str) and len(item) > _LONGEST:
        raise Withheld("An item of the reply has an id that is too long.")
    return item


def _places(value: dict[str, Json]) -> tuple[int | str | None, ...]:
    places = tuple(value.get(name) for name in _PLACES)
    known = [isinstance(place, int) and not isinstance(place, bool) for place in places]
    if not known[0] or not all(place is None or fine for place, fine in zip(places, known, strict=True)):
        raise Withheld("A delta of the reply does not say what it belongs to.")
    return places  # type: ignore[return-value]
