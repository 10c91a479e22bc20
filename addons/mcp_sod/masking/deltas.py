"""Replies of model APIs, masked: streams event by event, and bodies that were read whole."""

from collections import Counter
from decimal import Decimal
from typing import Final

from mcp_sod.errors import Withheld
from mcp_sod.masking.deltas_anthropic import Blocks
from mcp_sod.masking.deltas_chat import Choices
from mcp_sod.masking.deltas_responses import Items
from mcp_sod.masking.masks import Masks
from mcp_sod.masking.model_events import Event, Sent, masked_event, read_event
from mcp_sod.masking.pieces import Parts
from mcp_sod.wire.models import Dialect
from mcp_sod.wire.strict_json import MAX_DEPTH, Json

_DONE: Final = "[DONE]"
_LARGEST: Final = 10**6  # of a vector's numbers; digits before the point are no fraction's


class ModelStream:
    """One streamed reply: an event in, the masked events to deliver for it out.

    What it delivers are whole JSON objects, and `[DONE]` as it came. A text's rest comes in an event of our own,
    before the event that ends it. After Withheld was raised, nothing more is to be delivered.
    """

    def __init__(
        self, dialect: Dialect, endpoint: str, masks: Masks, limit: int, *, max_depth: int = MAX_DEPTH
    ) -> None:
        """`limit`: characters that may be held back, of all texts of the reply together."""
        self.counts: Counter[str] = Counter()
        """How often each mask found something."""
        self._masks = masks
        self._max_depth = max_depth
        self._ended = False
        parts = Parts(masks, limit, self.counts)
        self._flow: Blocks | Choices | Items
        match dialect, endpoint:
            case "openai", "chat/completions":
                self._flow = Choices(parts, self._deliver)
            case "openai", "responses":
                self._flow = Items(parts, self._deliver)
            case "anthropic", "messages":
                self._flow = Blocks(parts, self._deliver)
            case _:
                raise Withheld("This part of the model's API has no streams.")

    def event(self, kind: str | None, data: str) -> list[Sent]:
        """Return the events (type and data) to deliver for an event of this type and data; raises Withheld."""
        if not self._masks:
            return [(kind, data)]
        if self._ended:
            raise Withheld("The reply goes on after its end.")
        if data.strip() == _DONE:
            return [*self.end(), (None, _DONE)]
        return self._flow.event(kind or None, read_event(data, self._max_depth))

    def end(self) -> list[Sent]:
        """Return what is still held: the stream has ended, whether as it should or not."""
        self._ended = True
        return self._flow.done()

    def _deliver(self, event: Event) -> str:
        return masked_event(event, self._masks, self.counts)


def masked_whole(  # noqa: PLR0913, PLR0917 (what a reply is, and what is done to it)
    dialect: Dialect, endpoint: str, text: str, value: Json, masks: Masks, counts: Counter[str] | None = None
) -> str:
    """Return the masked text of a reply that is not streamed, given with its value; raises Withheld."""
    if not masks:
        return text
    if not isinstance(value, dict):
        raise Withheld("The upstream's reply is not a JSON object.")
    mine = {key: _copied(item) for key, item in value.items()}
    if (dialect, endpoint) == ("openai", "embeddings"):
        _without_vectors(mine)
    return masked_event(Event(text, mine), masks, Counter() if counts is None else counts)


def _copied(value: Json) -> Json:
    match value:
        case dict():
            return {key: _copied(item) for key, item in value.items()}
        case list():
            return [_copied(item) for item in value]
        case _:
            return value


def _without_vectors(value: dict[str, Json]) -> None:
    """Leave the numbers of embeddings alone: to a detector, a fraction's digits look like anything."""
    data = value.get("data")
    for item in data if isinstance(data, list) else []:
        if isinstance(item, dict) and item.get("object") == "embedding":
            vector = item.get("embedding")
            if isinstance(vector, list) and all(map(_of_vector, vector)):
                item["embedding"] = []


def _of_vector(number: Json) -> bool:
    return isinstance(number, int | Decimal) and -_LARGEST < number < _LARGEST
