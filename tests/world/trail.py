"""What a running gateway has put on record, read from its state folder and its store as they are on disk."""

import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from mcp_sod.audit.folder import FolderStore
from mcp_sod.audit.reader import lines, records, sources

Record = dict[str, Any]


class Trail:
    """The records of one gateway, wherever they are on their way from the spool to the store."""

    def __init__(self, state: Path, store: Path) -> None:
        self.spool = state / "spool"
        self.store = store

    def read(self) -> list[Record]:
        """All records, oldest first.

        Read in the direction in which they travel, so that none is missed between two places.
        """
        found = {record["seq"]: record for record in (*self._open(), *self._frozen(), *self._stored())}
        return [found[seq] for seq in sorted(found)]

    def wait_for(self, since: int = 0, patience: float = 10, **fields: Any) -> Record:
        """The first record from number `since` on that says all of `fields`.

        Raises:
            AssertionError: There was none within `patience` seconds.
        """
        deadline = time.monotonic() + patience
        while True:
            later = [record for record in self.read() if record["seq"] >= since]
            for record in later:
                if all(record.get(name) == value for name, value in fields.items()):
                    return record
            assert time.monotonic() < deadline, f"no record says {fields}; there are {[_short(one) for one in later]}"
            time.sleep(0.05)

    def _open(self) -> Iterator[Record]:
        for path in sorted(self.spool.glob("*.jsonl")):
            for line in _bytes(path).split(b"\n")[:-1]:
                yield json.loads(line)

    def _frozen(self) -> Iterator[Record]:
        for path in sorted((self.spool / "frozen").glob("*.gz")):
            raw = _bytes(path)
            for line in lines([raw]) if raw else ():
                yield json.loads(line)

    def _stored(self) -> Iterator[Record]:
        store = FolderStore(self.store)
        for source in sources(store)[0]:
            yield from records(store, source)


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""  # it has just gone where the next look will be


def _short(record: Mapping[str, Any]) -> dict[str, Any]:
    return {name: record[name] for name in ("event", "code", "reason") if name in record}
