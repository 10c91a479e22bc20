"""What is still to be said between a client and a server: answers that are owed, and what the gateway has to add.

Kept in memory and bounded: a server's question comes on a stream of the gateway's, and is gone with it.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, field

MOST_OPEN = 256  # unanswered requests in one conversation; older ones are forgotten
MOST_SESSIONS = 256  # of one owner
MOST_OWNERS = 10_000

type Id = int | str


@dataclass(slots=True)
class Conversation:
    """One session of one principal, or, where an upstream has no sessions, all that the principal says to it."""

    _owed: OrderedDict[tuple[bool, Id], str] = field(default_factory=OrderedDict)
    words: deque[bytes] = field(default_factory=lambda: deque(maxlen=MOST_OPEN))
    """Messages of the gateway's own, for a client that listens on a stream and nowhere else."""

    def demand(self, request_id: Id, method: str) -> None:
        """Remember the server's request: the client may answer it, once."""
        self._owed[_key(request_id)] = method
        if len(self._owed) > MOST_OPEN:
            self._owed.popitem(last=False)

    def owed(self, request_id: Id) -> str | None:
        """Return the method of the server's request that has no answer yet."""
        return self._owed.get(_key(request_id))

    def settle(self, request_id: Id) -> bool:
        """Take the one answer to the server's request; False if it was taken before."""
        return self._owed.pop(_key(request_id), None) is not None


class Conversations:
    """The conversations of all principals; the least recently used go first, each owner's own before another's."""

    def __init__(self) -> None:
        """Begin with none."""
        self._known: OrderedDict[bytes, OrderedDict[str, Conversation]] = OrderedDict()

    def of(self, owner: bytes, session: str) -> Conversation:
        """Return the conversation of an owner (his key) in a session (empty: none)."""
        mine = _used(self._known, owner, OrderedDict, MOST_OWNERS)
        return _used(mine, session, Conversation, MOST_SESSIONS)

    def end(self, owner: bytes, session: str) -> None:
        """Forget a session that is over."""
        self._known.get(owner, OrderedDict()).pop(session, None)


def _used[K, V](known: OrderedDict[K, V], key: K, made: Callable[[], V], most: int) -> V:
    """Return what is known by a key, or make it; it is the last to be forgotten now."""
    found = known.get(key)
    if found is None:
        found = known[key] = made()
    known.move_to_end(key)
    if len(known) > most:
        known.popitem(last=False)
    return found


def _key(request_id: Id) -> tuple[bool, Id]:
    return isinstance(request_id, str), request_id  # 1 and "1" are two ids
