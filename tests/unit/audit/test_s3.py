"""What the S3 store makes of a server's answers; real servers are in tests/e2e/test_stores.py."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from io import BytesIO
from typing import TYPE_CHECKING, cast

import boto3
import pytest
from botocore.response import StreamingBody
from botocore.stub import ANY, Stubber
from mcp_sod.audit.s3 import S3Store
from mcp_sod.audit.store import Mode, Version
from mcp_sod.errors import AuditError

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

NOW = datetime.now(UTC)


@pytest.fixture
def stub() -> Iterator[Stubber]:
    """A client whose answers are given beforehand."""
    client = boto3.client("s3", region_name="us-east-1", aws_access_key_id="a", aws_secret_access_key="b")  # noqa: S106 (no secret)
    with Stubber(client) as stubber:
        yield stubber


def store(stub: Stubber, mode: Mode = "COMPLIANCE") -> S3Store:
    """The store below `p/` that expects ten days."""
    return S3Store(cast("S3Client", stub.client), "bkt", "p", days=10, mode=mode)


def answer_put(stub: Stubber, **headers: str) -> None:
    """Let the next put be accepted, with these headers."""
    reply = {"ResponseMetadata": {"HTTPHeaders": headers, "HTTPStatusCode": 200}}
    expected = {"Bucket": "bkt", "Key": "p/k", "Body": b"x", "ContentMD5": ANY, "ChecksumSHA256": ANY}
    stub.add_response("put_object", reply, {**expected, "ChecksumAlgorithm": "SHA256"})


def test_a_put_carries_checksums_and_no_retention(stub: Stubber) -> None:
    """The bucket's default locks; a put asks for nothing that a put-only writer may not ask for."""
    answer_put(stub, date=format_datetime(datetime.now(UTC)))
    store(stub).put("k", b"x")


@pytest.mark.parametrize("offset", [timedelta(minutes=6), timedelta(minutes=-6), timedelta(days=400)])
def test_clocks_that_disagree_are_told(stub: Stubber, offset: timedelta) -> None:
    """A server whose Date is more than five minutes away is an AuditError; four minutes are not."""
    answer_put(stub, date=format_datetime(datetime.now(UTC) + offset))
    with pytest.raises(AuditError, match=r"clocks .* differ by"):
        store(stub).put("k", b"x")
    answer_put(stub, date=format_datetime(datetime.now(UTC) + timedelta(minutes=4)))
    store(stub).put("k", b"x")


def test_a_server_without_a_clock_is_told(stub: Stubber) -> None:
    """Without a Date nothing can be compared, so nothing is assumed."""
    for headers in ({}, {"date": "yesterday"}):
        answer_put(stub, **headers)
        with pytest.raises(AuditError, match="no Date"):
            store(stub).put("k", b"x")


@pytest.mark.parametrize(
    ("code", "hint"), [("AccessDenied", "what the bucket's policy allows"), ("NoSuchBucket", "Object Lock enabled")]
)
def test_a_refusal_is_one_sentence(stub: Stubber, code: str, hint: str) -> None:
    """A refused put is an AuditError with the bucket, the code and what to do, without keys or ids."""
    stub.add_client_error("put_object", code)
    with pytest.raises(AuditError, match=rf"The bucket bkt refused PutObject: {code}\. .*{hint}"):
        store(stub).put("k", b"x")


def test_a_writer_that_may_not_list_knows_nothing(stub: Stubber) -> None:
    """A denied listing is no error and no answer; any other failure is an error."""
    stub.add_client_error("list_objects_v2", "AccessDenied")
    assert store(stub).next_key("checkpoints/", "checkpoints/1") is None
    stub.add_response("list_objects_v2", {"Contents": [{"Key": "p/checkpoints/2"}]})
    assert store(stub).next_key("checkpoints/", "checkpoints/1") == "checkpoints/2"
    stub.add_client_error("list_objects_v2", "SlowDown")
    with pytest.raises(AuditError, match="SlowDown"):
        store(stub).next_key("checkpoints/", "checkpoints/1")


def test_versions_come_oldest_first(stub: Stubber) -> None:
    """Within a key the oldest version comes first, even if S3 gave two of them one date, and markers come last."""
    entries = [{"Key": key, "VersionId": id_, "LastModified": NOW} for key, id_ in (("p/a", "2"), ("p/a", "1"))]
    marker = {"Key": "p/a", "VersionId": "3", "LastModified": NOW}
    stub.add_response("list_object_versions", {"Versions": entries, "DeleteMarkers": [marker], "IsTruncated": False})
    found = list(store(stub).versions("a"))
    assert [(version.key, version.id, version.marker) for version in found] == [
        ("a", "1", False),
        ("a", "2", False),
        ("a", "3", True),
    ]


@pytest.mark.parametrize(
    ("mode", "days", "policy", "why"),
    [
        ("COMPLIANCE", 10, "COMPLIANCE", ""),
        ("COMPLIANCE", 10, "GOVERNANCE", ""),
        ("GOVERNANCE", 10, "COMPLIANCE", "in GOVERNANCE mode"),
        ("COMPLIANCE", 9, "COMPLIANCE", "before the 10 days of the policy"),
        (None, 0, "COMPLIANCE", "no Object Lock retention"),
    ],
)
def test_a_lock_is_judged(stub: Stubber, mode: str | None, days: int, policy: Mode, why: str) -> None:
    """A version counts as locked if its mode and date are at least the policy's."""
    lock = {"ObjectLockMode": mode, "ObjectLockRetainUntilDate": NOW + timedelta(days=days)} if mode else {}
    stub.add_response("get_object", {"Body": StreamingBody(BytesIO(b"x"), 1), **lock})
    body = store(stub, policy).read(Version("k", "1", NOW))
    assert (why in body.unlocked) if why else not body.unlocked
    assert b"".join(body.chunks) == b"x"
