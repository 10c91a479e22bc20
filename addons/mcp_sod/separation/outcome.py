"""What became of a call whose result tells the object: collected from its raw answer, before that is masked."""

from collections.abc import Mapping
from http import HTTPStatus

from mcp_sod.separation.keys import objects_in
from mcp_sod.separation.objects import Acting
from mcp_sod.wire.strict_json import Json

# What says that no tool ran: any other error may have come after the deed.
_NOT_RUN = (-32601, -32602, -32020)  # JSON-RPC 2.0, section 5.1; MCP 2026-07-28, header mismatch
_NOT_TAKEN = frozenset({400, 403, 404, 405, 415})  # without an answer in JSON-RPC (RFC 9110, section 15.5)
_UNSURE = frozenset({HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS})


class Outcome:
    """Called with each answer to the call; it only collects, for it stands in the way of the reply.

    Only an error which says that no tool ran means that nothing was made. A tool that reports failure (`isError`) may
    have acted first, as may one that was cancelled: such an act stays open, as does one whose result has no key, is a
    task, or asks for input first (MCP 2026-07-28, `resultType`). It ends with the rule's `open_for`, and by nothing
    that the same person does later; another person is not concerned.
    """

    def __init__(self, acting: Acting, depth: int) -> None:
        """`depth`: how deep JSON may be nested. `answered`: whether any answer has come."""
        self.acting = acting
        self._depth = depth
        self._found: dict[str, frozenset[str]] = {act.key: frozenset() for act in acting.acts if act.objects is None}
        self._unclear: set[str] = set()
        self.answered = False

    def __call__(self, answer: Mapping[str, Json]) -> None:
        """Take note of the objects that an answer tells."""
        self.answered = True
        if _not_run(answer):
            return
        result = answer.get("result")
        for key in self._found:
            objects = objects_in(result, key, self._depth) if isinstance(result, dict) and _done(result) else None
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
        if not self.answered:
            return self.undone if status in _NOT_TAKEN else {}
        known = {key: objects for key, objects in self._found.items() if key not in self._unclear}
        if status in _UNSURE or status >= HTTPStatus.INTERNAL_SERVER_ERROR:
            return {key: objects for key, objects in known.items() if objects}
        return known


def _not_run(answer: Mapping[str, Json]) -> bool:
    error = answer.get("error")
    return "result" not in answer and isinstance(error, dict) and error.get("code") in _NOT_RUN


def _done(result: Mapping[str, Json]) -> bool:
    """Say whether this is the tool's own result, no failure, and not word of where or how it will come."""
    failed = result.get("isError") is True
    return not failed and result.get("resultType", "complete") == "complete" and "task" not in result
