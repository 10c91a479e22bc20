"""A folder as the store, for newcomers: tamper-evident, but nothing keeps its owner from deleting it."""

import os
import stat
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

from mcp_sod.audit.durable import make_folder, write_once
from mcp_sod.audit.store import Body, Version
from mcp_sod.errors import AuditError

_CHUNK = 65_536


class FolderStore:
    """One file an object; a file that is there is never written over."""

    guarantee = "tamper-evident, not write-once"

    def __init__(self, root: Path) -> None:
        """Take the folder; it is made with the first object."""
        self._root = root

    def put(self, key: str, body: bytes) -> None:
        """Write a file whole or not at all; other bytes under a name that is taken are an AuditError."""
        path = self._root / key
        try:
            make_folder(path.parent)
            if not write_once(path, body) and path.read_bytes() != body:
                raise AuditError(
                    f"{path} is there already, with other bytes.",
                    hint="Another gateway of this name writes here, or someone altered it: run `audit verify`.",
                )
        except OSError as error:
            raise AuditError(f"{path} cannot be written: {error.strerror}.", hint=_HINT) from None

    def next_key(self, prefix: str, after: str) -> str | None:
        """Return the first key below a prefix that sorts after another."""
        return min((version.key for version in self.versions(prefix) if version.key > after), default=None)

    def versions(self, prefix: str) -> Iterator[Version]:
        """Yield the files below a prefix that ends in a slash, by key; a folder knows one version of each."""
        for path in _files(self._root / prefix):
            try:
                at = datetime.fromtimestamp(path.lstat().st_mtime, UTC)
            except FileNotFoundError:
                continue  # a put that was under way has ended; what must be there is missed by who reads
            yield Version(path.relative_to(self._root).as_posix(), "", at)

    def read(self, version: Version) -> Body:
        """Open one file; a link, a pipe or a device is not followed or read, but told."""
        path = self._root / version.key
        try:
            plain = stat.S_ISREG(path.lstat().st_mode)
        except OSError as error:
            raise AuditError(f"{path} cannot be read: {error.strerror}.", hint=_HINT) from None
        return Body(_chunks(path)) if plain else Body((), "it is a link or the like, not a plain file")


def _files(folder: Path) -> Iterator[Path]:
    """Yield the files of a tree by name, hidden ones too: nothing can be put aside here unseen."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except FileNotFoundError:
        return
    except OSError as error:
        raise AuditError(f"{folder} cannot be read: {error.strerror}.", hint=_HINT) from None
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path))
        else:
            yield Path(entry.path)


def _chunks(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                yield chunk
    except OSError as error:
        raise AuditError(f"{path} cannot be read: {error.strerror}.", hint=_HINT) from None


_HINT = "Check the folder, its owner, and the room on its disk."
