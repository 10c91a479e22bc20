"""Objects in a versioned store: the oldest version is what the gateway wrote, the others are laid over it."""

import hashlib
from collections.abc import Callable, Iterator

from mcp_sod.audit.reader import Object
from mcp_sod.audit.report import Problem
from mcp_sod.audit.store import Body, ReadStore, Version

type Tell = Callable[[Problem], None]


def open_oldest(store: ReadStore, gateway: str, found: Object, tell: Tell) -> Body | None:
    """Open the oldest version, and tell if it is hidden, shadowed or not locked; None if there is no version."""
    if found.markers:
        tell(Problem("hidden", found.key, f"{gateway}: a delete marker covers it."))
    for version in impostors(store, found):
        sentence = f"{gateway}: a version with other bytes covers it since {version.at:%Y-%m-%d %H:%M:%S} UTC."
        tell(Problem("shadowed", found.key, sentence))
    if found.oldest is None:
        return None
    body = store.read(found.oldest)
    if body.unlocked:
        tell(Problem("unlocked", found.key, f"{gateway}: {body.unlocked}."))
    return body


def impostors(store: ReadStore, found: Object) -> Iterator[Version]:
    """Yield the later versions with other bytes; a put that was repeated, its answer lost, leaves the same bytes."""
    oldest = found.oldest
    if oldest is None:
        return
    for version in found.later:
        same = version.tag and version.tag == oldest.tag
        if not same and _digest(store, version) != _digest(store, oldest):
            yield version


def _digest(store: ReadStore, version: Version) -> bytes:
    digest = hashlib.sha256()
    for chunk in store.read(version).chunks:
        digest.update(chunk)
    return digest.digest()
