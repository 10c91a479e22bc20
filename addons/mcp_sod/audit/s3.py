"""An S3 bucket with Object Lock as the store.

The writer may do `s3:PutObject` and nothing else, so its puts carry no retention headers: AWS asks for
`s3:PutObjectRetention` as well to accept them (radosgw 16 does not), and that right also changes locks. The bucket's
default retention locks every version on either server. Since an administrator can take that default away, and an
overwrite or a delete marker hides a version without touching it, reading looks at all versions and at the lock of each.
"""

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, cast

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError

from mcp_sod.audit.store import Body, Mode, Version
from mcp_sod.errors import AuditError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_s3.type_defs import ListObjectVersionsOutputTypeDef

_CHUNK = 65_536
_SKEW = timedelta(minutes=5)
_ROUNDING = timedelta(hours=1)  # between the server's date of a version and the start of its retention


class S3Store:
    """Objects below a prefix of one bucket; `days` and `mode` are the retention expected of each version."""

    def __init__(self, client: "S3Client", bucket: str, prefix: str, *, days: int, mode: Mode) -> None:
        """Take a client with the identity to act as: the writer's in the gateway, the auditor's when reading."""
        self._client = client
        self._bucket = bucket
        self._prefix = f"{prefix}/" if prefix else ""
        self._retention = timedelta(days=days)
        self._mode = mode

    @classmethod
    def connect(cls, bucket: str, prefix: str, *, days: int, mode: Mode, endpoint: str | None) -> "S3Store":
        """Return a store with a client of its own; a server that is not AWS gets path-style addresses.

        A try fails within seconds and is not repeated here: whoever puts keeps its own schedule.
        """
        with _plainly(bucket):
            session = boto3.session.Session()  # not the default one, which keeps the first identity that it met
            client = session.client("s3", endpoint_url=endpoint, config=_config("auto"))
            if not client.meta.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn")):
                client = session.client("s3", endpoint_url=endpoint, config=_config("path"))
        return cls(client, bucket, prefix, days=days, mode=mode)

    @property
    def guarantee(self) -> str:
        """Say what the lock of a version promises; only reading can tell whether a version has it."""
        if self._mode == "COMPLIANCE":
            return "write-once: S3 Object Lock, COMPLIANCE mode, for every version that verification found locked"
        return "S3 Object Lock, GOVERNANCE mode: who holds the right to bypass it can still delete"

    def put(self, key: str, body: bytes) -> None:
        """Put one object, with checksums that the server compares; a server whose clock disagrees is an AuditError.

        Retention runs on the server's clock and records on ours, so the two must tell the same time.
        """
        with _plainly(self._bucket):
            reply = self._client.put_object(
                Bucket=self._bucket,
                Key=self._prefix + key,
                Body=body,
                ContentMD5=_base64(hashlib.md5(body, usedforsecurity=False).digest()),
                ChecksumAlgorithm="SHA256",
                ChecksumSHA256=_base64(hashlib.sha256(body).digest()),
            )
        _compare_clocks(reply["ResponseMetadata"]["HTTPHeaders"].get("date", ""))

    def next_key(self, prefix: str, after: str) -> str | None:
        """Return the first key below a prefix that sorts after another; None also where the writer may not list."""
        try:
            with _plainly(self._bucket):
                reply = self._client.list_objects_v2(
                    Bucket=self._bucket,
                    Prefix=self._prefix + prefix,
                    StartAfter=self._prefix + after,
                    MaxKeys=1,
                )
        except _ForbiddenError:
            return None
        found = reply.get("Contents", [])
        return found[0]["Key"].removeprefix(self._prefix) if found else None

    def versions(self, prefix: str) -> Iterator[Version]:
        """Yield every version and delete marker below a prefix, by key, and of one key the oldest first."""
        found: list[Version] = []
        with _plainly(self._bucket):
            pages = self._client.get_paginator("list_object_versions")
            for page in pages.paginate(Bucket=self._bucket, Prefix=self._prefix + prefix):
                found += self._page(page)
        found.reverse()  # S3 lists the newest version of a key first; dates may be equal, so keep its order
        yield from sorted(found, key=lambda version: (version.key, version.marker))

    def read(self, version: Version) -> Body:
        """Open one version, and judge its lock by the headers that come with it."""
        with _plainly(self._bucket):
            reply = self._client.get_object(Bucket=self._bucket, Key=self._prefix + version.key, VersionId=version.id)
        unlocked = self._unlocked(reply.get("ObjectLockMode"), reply.get("ObjectLockRetainUntilDate"), version.at)
        return Body(self._chunks(reply["Body"]), unlocked)

    def _page(self, page: "ListObjectVersionsOutputTypeDef") -> Iterator[Version]:
        for marker, entries in ((False, page.get("Versions", [])), (True, page.get("DeleteMarkers", []))):
            for entry in cast("list[dict[str, Any]]", entries):
                key = entry["Key"].removeprefix(self._prefix)
                at = entry["LastModified"].astimezone(UTC)
                yield Version(key, entry["VersionId"], at, entry.get("ETag", ""), marker)

    def _unlocked(self, mode: str | None, until: datetime | None, at: datetime) -> str:
        """Return why a version is not locked as the policy asks, or nothing; COMPLIANCE is more than GOVERNANCE."""
        if mode is None or until is None:
            return "it has no Object Lock retention, or the reader lacks s3:GetObjectRetention"
        if mode not in {self._mode, "COMPLIANCE"}:
            return f"its lock is in {mode} mode, not {self._mode}"
        if until < at + self._retention - _ROUNDING:
            return f"its lock ends on {until:%Y-%m-%d}, before the {self._retention.days} days of the policy"
        return ""

    def _chunks(self, body: Any) -> Iterator[bytes]:
        with _plainly(self._bucket):
            yield from body.iter_chunks(_CHUNK)


class _ForbiddenError(AuditError):
    """The identity may not do this."""


@contextmanager
def _plainly(bucket: str) -> Iterator[None]:
    """Turn what boto3 raises into sentences without credentials, host names or request ids."""
    try:
        yield
    except ClientError as error:
        code = error.response.get("Error", {}).get("Code", "unknown")
        kind = _ForbiddenError if code in {"AccessDenied", "403"} else AuditError
        sentence = f"The bucket {bucket} refused {error.operation_name}: {code}."
        raise kind(sentence, hint=_HINTS.get(code, "")) from None
    except NoCredentialsError:
        raise AuditError("There are no S3 credentials.", hint=_HINTS["InvalidAccessKeyId"]) from None
    except BotoCoreError as error:
        sentence = f"The bucket {bucket} cannot be reached: {type(error).__name__}."
        raise AuditError(sentence, hint="Check the network and AWS_ENDPOINT_URL_S3.") from None


def _config(addressing: Any) -> Config:
    return Config(
        connect_timeout=3,
        read_timeout=10,
        retries={"total_max_attempts": 1},
        s3={"addressing_style": addressing},
        request_checksum_calculation="when_required",  # over TLS radosgw refuses boto3's trailing checksums
        response_checksum_validation="when_required",
    )


def _compare_clocks(date: str) -> None:
    """Raise an AuditError unless the server's `Date` (RFC 9110, section 6.6.1) is near the local time."""
    try:
        skew = abs(parsedate_to_datetime(date) - datetime.now(UTC))
    except (ValueError, TypeError):
        raise AuditError("The S3 server's reply has no Date, so the clocks cannot be compared.") from None
    if skew > _SKEW:
        raise AuditError(
            f"The clocks of this machine and of the S3 server differ by {skew.total_seconds():.0f} s.",
            hint="Set the clock of this machine (NTP); retention and records must tell the same time.",
        )


def _base64(digest: bytes) -> str:
    return base64.b64encode(digest).decode()


_HINTS = {
    "AccessDenied": "Check which identity this is and what the bucket's policy allows it.",
    "NoSuchBucket": "Make the bucket with Object Lock enabled and a default retention.",
    "InvalidAccessKeyId": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE.",
    "SignatureDoesNotMatch": "Check AWS_SECRET_ACCESS_KEY.",
}
