"""Names of stores."""

from pathlib import Path

import pytest
from mcp_sod.audit.folder import FolderStore
from mcp_sod.audit.s3 import S3Store
from mcp_sod.audit.store import open_store
from mcp_sod.errors import AuditError


def test_a_file_url_is_relative_to_the_base(tmp_path: Path) -> None:
    """`file:PATH` stands below the base, an absolute one where it says."""
    for url in ("file:var/audit", f"file:{tmp_path}/var/audit", f"file://{tmp_path}/var/audit"):
        open_store(url, base=tmp_path, days=1).put("records/v1/x", b"one")
    assert isinstance(open_store("file:x", base=tmp_path, days=1), FolderStore)
    assert (tmp_path / "var/audit/records/v1/x").exists()


def test_an_s3_url_names_bucket_and_prefix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`s3://bucket/prefix` needs no server to be opened, only to be used."""
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    assert isinstance(open_store("s3://bucket/a/b/", base=tmp_path, days=1), S3Store)


@pytest.mark.parametrize("url", ["", "file:", "s3:", "s3://", "/var/audit", "ftp://x/y"])
def test_other_urls_are_told(tmp_path: Path, url: str) -> None:
    """Anything else is an AuditError that says what to write."""
    with pytest.raises(AuditError, match=r"names no store\. Write file:PATH or s3://"):
        open_store(url, base=tmp_path, days=1)
