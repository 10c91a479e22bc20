"""Streams of OpenAI's Chat Completions: `choices[i].delta`, until a `finish_reason` and `[DONE]`."""

from collections.abc import Callable
from typing import Final

from mcp_sod.errors import Withheld
from mcp_sod.masking.model_events import Event, Sent, made_event
from mcp_sod.masking.pieces import Key, Parts
from mcp_sod.wire.strict_json import Json, Path, texts

_HEAD: Final = ("id", "object", "created", "model", "system_fingerprint")
_PLAIN: Final = frozenset({"content", "refusal"})
_ROLES: Final = frozenset({"", "system", "developer", "user", "assistant", "tool", "function"})
_CALLS: Final = frozenset({"", "function", "custom"})
_OF_CHOICE: Final = frozenset({
    "index", "delta", "finish_reason", "native_finish_reason", "logprobs",
    "content_filter_results", "content_filter_result", "content_filter_offsets",  # Azure's
})  # fmt: skip
MOST_CHOICES: Final = 128  # the most that the API's `n` asks for
_LONGEST: Final = 512  # characters of an id that our own events repeat


class Choices:
    """The choices of one completion."""

    def __init__(self, parts: Parts, deliver: Callable[[Event], str]) -> None:
        """`deliver`: gives the data of a masked event."""
        self._parts = parts
        self._deliver = deliver
        self._head: dict[str, Json] = {}
        self._indexes: set[int] = set()
        self._finished: set[int] = set()

    def event(self, kind: str | None, event: Event) -> list[Sent]:
        """Return the events to deliver for this one."""
        if kind not in (None, "message") and not (kind == "error" and "error" in event.value):
            raise Withheld("The reply has an event of a type that this API does not use.")
        head = {key: event.value.get(key) for key in _HEAD}
        short = (key for key, said in head.items() if isinstance(said, int) or (isinstance(said, str) and _short(said)))
        self._head |= {key: head[key] for key in short}
        before: list[Sent] = []
        choices = event.value.get("choices", [])
        if not isinstance(choices, list) or any(key.casefold() == "choices" != key for key in event.value):
            raise Withheld("The choices of the reply are not a list.")
        if len(choices) > MOST_CHOICES:
            raise Withheld("An event of the reply has too many choices.")
        for at, choice in enumerate(choices):
            if not isinstance(choice, dict) or not _is_index(choice.get("index")):
                raise Withheld("A choice of the reply has no index.")
            before += self._choice(event, ("choices", at), choice)
        return [*before, (kind, self._deliver(event))]

    def done(self) -> list[Sent]:
        """Return what is still to be delivered of all choices."""
        return [self._extra(key, text) for key, text in self._parts.ended()]

    def _choice(self, event: Event, path: Path, choice: dict[str, Json]) -> list[Sent]:
        index = choice["index"]
        assert isinstance(index, int)
        delta = choice.get("delta")
        self._indexes.add(index)
        if len(self._indexes) > MOST_CHOICES:
            raise Withheld("The reply has too many choices.")
        if any(text for _, text in texts({key: choice[key] for key in choice.keys() - _OF_CHOICE}).leaves):
            raise Withheld("A choice of the reply has a text that is not known here.")
        pieces: list[tuple[Path, Key]] = []
        if isinstance(delta, dict):
            pieces = self._delta(event, (*path, "delta"), index, delta)
        elif delta is not None:
            raise Withheld("A delta of the reply is not an object.")
        if choice.get("finish_reason") is None or index in self._finished:
            return []
        self._finished.add(index)
        last = dict(self._parts.ended(first=(index,)))
        held: list[tuple[Key, str]] = []
        for there, key in pieces:  # what is to be shown of this very event goes before it, with the rest
            if key in last:
                last[key] = event.shown[there] + last[key]
                event.show(there, "")
        held += last.items()
        return [self._extra(key, text) for key, text in held]

    def _delta(self, event: Event, path: Path, index: int, delta: dict[str, Json]) -> list[tuple[Path, Key]]:
        pieces: list[tuple[Path, Key]] = []
        for key, value in delta.items():
            here = (*path, key)
            if key == "tool_calls" and isinstance(value, list):
                for at, call in enumerate(value):
                    if not isinstance(call, dict) or not _is_index(call.get("index")):
                        raise Withheld("A tool call of the reply has no index.")
                    self._call(event, (*here, at), (index, key, call["index"]), call)  # type: ignore[arg-type]
            elif key == "function_call" and isinstance(value, dict):
                self._function(event, here, (index, key), value)
            elif isinstance(value, str) and (key in _PLAIN or key.startswith("reasoning")):
                self._goes_on(index, value)
                event.show(here, self._parts.text((index, key), event.take(here)))
                pieces.append((here, (index, key)))
            elif not _complete(key, value) and any(text for _, text in texts({key: value}).leaves):
                raise Withheld("A delta of the reply has a text that is not known here.")
        return pieces

    def _goes_on(self, index: int, piece: str) -> None:
        if piece and index in self._finished:
            raise Withheld("A choice of the reply goes on after its end.")

    def _call(self, event: Event, path: Path, key: Key, call: dict[str, Json]) -> None:
        for name, value in call.items():
            if name in ("function", "custom") and isinstance(value, dict):
                self._function(event, (*path, name), (*key, name), value)
            elif name in ("id", "type") and isinstance(value, str):
                if name == "type" and value not in _CALLS:
                    raise Withheld("A tool call of the reply is of a kind that is not known here.")
                self._parts.opaque((*key, name), "" if name == "type" else value)
            elif name != "index" and any(text for _, text in texts({name: value}).leaves):
                raise Withheld("A tool call of the reply has a text that is not known here.")

    def _function(self, event: Event, path: Path, key: Key, function: dict[str, Json]) -> None:
        for name, value in function.items():
            if not isinstance(value, str):
                if value is not None:
                    raise Withheld("A tool call of the reply is not made of texts.")
            elif name in ("arguments", "input"):
                here = (*path, name)
                self._goes_on(int(key[0] or 0), value)
                event.show(here, self._parts.json((*key, name), event.take(here)))
            elif name == "name":
                self._parts.opaque((*key, name), value)
            else:
                raise Withheld("A tool call of the reply has a text that is not known here.")

    def _extra(self, key: Key, text: str) -> Sent:
        """Return an event that shows the rest of one text."""
        index, name, *more = key
        delta: dict[str, Json] = {str(name): ""}
        path: Path = ("choices", 0, "delta", str(name))
        if name == "function_call":
            delta, path = {name: {str(more[0]): ""}}, (*path, str(more[0]))
        elif name == "tool_calls":
            call, kind, member = more
            delta = {name: [{"index": call, str(kind): {str(member): ""}}]}
            path = (*path, 0, str(kind), str(member))
        choice: dict[str, Json] = {"index": index, "delta": delta, "finish_reason": None}
        return None, self._deliver(made_event({**self._head, "choices": [choice]}, path, text))


def _complete(key: str, value: Json) -> bool:
    """Say whether it is sent at once, and so is masked as any message; a list's objects with an index are joined."""
    if key == "role":
        return value in _ROLES if isinstance(value, str) else False
    return key == "annotations" and isinstance(value, list) and not any(_indexed(item) for item in value)


def _indexed(item: Json) -> bool:
    return not isinstance(item, dict) or any(key.casefold() == "index" for key in item)


def _short(said: str) -> bool:
    return len(said) <= _LONGEST


def _is_index(value: Json) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
