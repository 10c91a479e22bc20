"""What a store of records is: something to put objects into, and to read every version of them back."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from mcp_sod.errors import AuditError

type Mode = Literal["COMPLIANCE", "GOVERNANCE"]


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an object, or a delete marker over it; `id` tells versions of one key apart.

    Versions with the same `tag`, if they have one, hold the same bytes; others may.
    """

    key: str
    id: str
    at: datetime
    tag: str = ""
    marker: bool = False


@dataclass(frozen=True, slots=True)
class Body:
    """What a version holds, and why it is not locked as it should be (nothing if it is, or cannot be)."""

    chunks: Iterable[bytes]
    unlocked: str = ""


class ReadStore(Protocol):
    """What an auditor needs; every failure is an AuditError."""

    @property
    def guarantee(self) -> str:
        """Say what the store promises about objects once they are in it."""

    def versions(self, prefix: str) -> Iterator[Version]:
        """Yield every version and delete marker below a prefix: by key, and of one key the oldest first."""

    def read(self, version: Version) -> Body:
        """Open one version."""


class Store(ReadStore, Protocol):
    """What the gateway needs; its methods block, so they run in a thread."""

    def put(self, key: str, body: bytes) -> None:
        """Store an object durably; the same bytes under the same key again are no error."""

    def next_key(self, prefix: str, after: str) -> str | None:
        """Return the first key below a prefix that sorts after another; None if there is none or it may not look."""


def open_store(url: str, *, base: Path, days: int, mode: Mode = "COMPLIANCE", endpoint: str | None = None) -> Store:
    """Return the store that a URL names: `file:PATH`, relative to `base`, or `s3://bucket/prefix`.

    `days` and `mode` are the retention that reading expects of every object. S3 takes its credentials, region and
    endpoint from the standard AWS environment and configuration; `endpoint` overrides the latter.
    """
    kind, _, rest = url.partition(":")
    if kind == "file" and rest.removeprefix("//"):
        from mcp_sod.audit.folder import FolderStore  # noqa: PLC0415 (its sibling imports the types of this module)

        return FolderStore(base / rest.removeprefix("//"))
    bucket, _, prefix = rest.removeprefix("//").partition("/")
    if kind == "s3" and bucket:
        from mcp_sod.audit.s3 import S3Store  # noqa: PLC0415 (boto3 takes a third of a second to import)

        return S3Store.connect(bucket, prefix.strip("/"), days=days, mode=mode, endpoint=endpoint)
    raise AuditError(f"{url!r} names no store.", hint="Write file:PATH or s3://bucket/prefix.")
