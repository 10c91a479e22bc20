"""What became of a call whose result tells the object: collected from its raw answer, before that is masked."""

from collections.abc import Mapping
from http import HTTPStatus

from mcp_sod.separation.keys import objects_in
from mcp_sod.separation.objects import Acting
from mcp_sod.wire.strict_json import Json

# Of what came of the call, whoever sent these knows nothing: it stands between, and has lost sight of the server.
_LOST = frozenset({HTTPStatus.BAD_GATEWAY, HTTPStatus.GATEWAY_TIMEOUT})


class Outcome:
    """Called with each answer to the call; it only collects, for it stands in the way of the reply.

    An error means that nothing was made. A result without the key leaves the act open, and so does one that is a task
    or that asks for input first (MCP 2026-07-28, `resultType`): the final result comes elsewhere.
    """

    def __init__(self, acting: Acting, depth: int) -> None:
        """`depth`: how deep JSON may be nested."""
        self.acting = acting
        self._depth = depth
        self._found: dict[str, frozenset[str]] = {act.key: frozenset() for act in acting.acts if act.objects is None}
        self._unclear: set[str] = set()
        self._answered = False

    def __call__(self, answer: Mapping[str, Json]) -> None:
        """Take note of the objects that an answer tells."""
        self._answered = True
        result = answer.get("result")
        if result is None or (isinstance(result, dict) and result.get("isError") is True):
            return
        for key in self._found:
            objects = objects_in(result, key, self._depth) if isinstance(result, dict) and _final(result) else None
            if objects is None:
                self._unclear.add(key)
            else:
                self._found[key] |= objects

    @property
    def undone(self) -> dict[str, frozenset[str]]:
        """What is settled when the call did not reach its upstream: all of it, and nothing was made."""
        return dict.fromkeys(self._found, frozenset())

    def settled(self, status: int) -> dict[str, frozenset[str]]:
        """Return the objects by key, none where nothing was made; a key is missing while that is not known."""
        if not self._answered and status < HTTPStatus.BAD_REQUEST:
            return {}
        known = {key: objects for key, objects in self._found.items() if key not in self._unclear}
        if status in _LOST:
            return {key: objects for key, objects in known.items() if objects}
        return known


def _final(result: Mapping[str, Json]) -> bool:
    """Say whether this is the tool's own result, and not word of where or how it will come."""
    return result.get("resultType", "complete") == "complete" and "task" not in result
