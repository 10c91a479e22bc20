"""The object store holds what the audit store's duties stand on."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from botocore.exceptions import ClientError

from tests.world.radosgw import RadosGateway

pytestmark = pytest.mark.radosgw


def denied(act: Callable[..., object], **arguments: Any) -> None:
    """Asserts that the store refuses this for want of permission."""
    with pytest.raises(ClientError, match="AccessDenied"):
        act(**arguments)


@pytest.fixture(scope="module")
def version(radosgw: RadosGateway) -> str:
    """The version id of one object that the writer put into the locked bucket `audit`."""
    radosgw.create_locked_bucket("audit", days=2)
    return radosgw.client("writer").put_object(Bucket="audit", Key="record", Body=b"1")["VersionId"]


def test_the_writer_can_only_add(radosgw: RadosGateway, version: str) -> None:
    """No read, no delete, no say over locks."""
    writer, record = radosgw.client("writer"), {"Bucket": "audit", "Key": "record"}
    longer = {"Mode": "COMPLIANCE", "RetainUntilDate": datetime.now(UTC) + timedelta(days=9)}
    denied(writer.get_object, **record)
    denied(writer.list_objects_v2, Bucket="audit")
    denied(writer.delete_object, **record)
    denied(writer.delete_object, **record, VersionId=version)
    denied(writer.put_object_acl, **record, ACL="public-read")
    denied(writer.put_object_retention, **record, VersionId=version, Retention=longer)


def test_the_auditor_can_only_read(radosgw: RadosGateway, version: str) -> None:
    """Versions, bodies and retention are readable; nothing can be written or deleted."""
    auditor = radosgw.client("auditor")
    assert [one["VersionId"] for one in auditor.list_object_versions(Bucket="audit")["Versions"]] == [version]
    assert auditor.get_object(Bucket="audit", Key="record", VersionId=version)["Body"].read() == b"1"
    retention = auditor.get_object_retention(Bucket="audit", Key="record", VersionId=version)["Retention"]
    assert retention["Mode"] == "COMPLIANCE"
    assert retention["RetainUntilDate"] > datetime.now(UTC) + timedelta(days=1)
    denied(auditor.put_object, Bucket="audit", Key="forged", Body=b"")
    denied(auditor.delete_object, Bucket="audit", Key="record", VersionId=version)


def test_the_owner_cannot_undo(radosgw: RadosGateway, version: str) -> None:
    """COMPLIANCE binds the bucket's owner too: no delete, no shorter retention, no weaker mode."""
    admin, record = radosgw.client("admin"), {"Bucket": "audit", "Key": "record", "VersionId": version}
    now = datetime.now(UTC)
    shorter = {"Mode": "COMPLIANCE", "RetainUntilDate": now + timedelta(minutes=1)}
    weaker = {"Mode": "GOVERNANCE", "RetainUntilDate": now + timedelta(days=9)}
    denied(admin.delete_object, **record)
    denied(admin.delete_object, **record, BypassGovernanceRetention=True)
    denied(admin.put_object_retention, **record, Retention=shorter)
    denied(admin.put_object_retention, **record, Retention=weaker, BypassGovernanceRetention=True)


@pytest.mark.usefixtures("version")
def test_the_writer_picks_its_own_lock(radosgw: RadosGateway) -> None:
    """A limit of radosgw, to be known: a put may carry a weaker lock than the bucket's default rule."""
    put = radosgw.client("writer").put_object(
        Bucket="audit",
        Key="weak",
        Body=b"1",
        ObjectLockMode="GOVERNANCE",
        ObjectLockRetainUntilDate=datetime.now(UTC) + timedelta(seconds=5),
    )
    read = radosgw.client("auditor").get_object_retention
    assert read(Bucket="audit", Key="weak", VersionId=put["VersionId"])["Retention"]["Mode"] == "GOVERNANCE"
