"""Where the records go: a folder, or a bucket whose objects nobody can delete."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from botocore.exceptions import ClientError

from tests.world import radosgw as ceph
from tests.world.radosgw import RadosGateway

type Kind = Literal["auto", "folder", "radosgw"]
BUCKET = "audit"
PREFIX = "gw"
RETENTION = 2555  # days, as the default policy asks


class NoCephError(Exception):
    """The locked bucket was asked for, and there is nothing to make one with."""


class FolderArchive:
    """A folder: its files tell of every change, but their owner can change them."""

    name = "a folder (radosgw gives more: --store radosgw)"
    why = "whatever is altered shows, but the folder's owner can delete all of it; Object Lock is for production."
    writer: Mapping[str, str] = {}
    auditor: Mapping[str, str] = {}

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = f"file:{folder}"

    def copy(self, folder: Path) -> None:
        """Copies everything there is."""
        shutil.copytree(self.folder, folder)


class LockedBucket:
    """A bucket with Object Lock in COMPLIANCE mode on a real radosgw, with a user for each duty."""

    name = f"radosgw (Ceph), bucket {BUCKET} with S3 Object Lock in COMPLIANCE mode"
    why = f"through S3, for {RETENTION} days, neither the gateway nor the bucket's owner can alter or delete a record."

    def __init__(self, server: RadosGateway) -> None:
        server.create_locked_bucket(BUCKET, RETENTION)
        self.server = server
        self.url = f"s3://{BUCKET}/{PREFIX}"
        region = {"AWS_DEFAULT_REGION": "us-east-1"}
        self.writer = {**server.credentials("writer"), **region}
        self.auditor = {**server.credentials("auditor"), **region}

    def copy(self, folder: Path) -> None:
        """Downloads everything there is, as the auditor."""
        auditor = self.server.client("auditor")
        for version in self._versions():
            path = folder / version["Key"].removeprefix(f"{PREFIX}/")
            path.parent.mkdir(parents=True, exist_ok=True)
            reply = auditor.get_object(Bucket=BUCKET, Key=version["Key"], VersionId=version["VersionId"])
            path.write_bytes(reply["Body"].read())

    def delete(self, user: str, key: str) -> str:
        """Tries to delete the oldest version of a key as this user; gives the server's answer."""
        version = next(each["VersionId"] for each in self._versions() if each["Key"] == f"{PREFIX}/{key}")
        try:
            self.server.client(user).delete_object(Bucket=BUCKET, Key=f"{PREFIX}/{key}", VersionId=version)
        except ClientError as error:
            return str(error.response["Error"]["Code"])
        return "deleted"

    def overwrite(self, key: str, body: bytes) -> None:
        """Puts other bytes under a key, with the gateway's own credentials."""
        self.server.client("writer").put_object(Bucket=BUCKET, Key=f"{PREFIX}/{key}", Body=body)

    def _versions(self) -> Iterator[Any]:
        pages = self.server.client("auditor").get_paginator("list_object_versions")
        for page in pages.paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/"):
            yield from page.get("Versions", [])


type Archive = FolderArchive | LockedBucket


@contextmanager
def open_archive(kind: Kind, folder: Path) -> Iterator[Archive]:
    """The archive of this kind; `auto` takes the locked bucket where radosgw is installed.

    Raises:
        NoCephError: It was to be radosgw, which is not installed.
    """
    if kind == "folder" or (kind == "auto" and not ceph.available()):
        yield FolderArchive(folder / "audit")
        return
    if not ceph.available():
        raise NoCephError("radosgw is not installed. On Debian: apt-get install ceph-mon ceph-osd ceph-common radosgw")
    with RadosGateway(folder / "ceph") as server:
        yield LockedBucket(server)
