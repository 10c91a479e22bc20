"""The folder store; what all stores have in common is in tests/e2e/test_stores.py."""

import os
from pathlib import Path

import pytest
from mcp_sod.audit.folder import FolderStore
from mcp_sod.errors import AuditError


def test_other_bytes_under_a_taken_name_are_a_conflict(tmp_path: Path) -> None:
    """An object is never written over: the same bytes again are fine, others are an AuditError."""
    store = FolderStore(tmp_path)
    store.put("records/v1/x", b"one")
    store.put("records/v1/x", b"one")
    with pytest.raises(AuditError, match="there already, with other bytes"):
        store.put("records/v1/x", b"two")
    assert (tmp_path / "records/v1/x").read_bytes() == b"one"


def test_says_what_it_does_not_guarantee(tmp_path: Path) -> None:
    """A folder never calls itself write-once."""
    assert FolderStore(tmp_path).guarantee == "tamper-evident, not write-once"


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    """A path that leads through a file is an AuditError for the writer; a missing folder is an empty store."""
    (tmp_path / "file").touch()
    with pytest.raises(AuditError, match="cannot be written"):
        FolderStore(tmp_path / "file").put("records/v1/x", b"one")
    assert list(FolderStore(tmp_path / "none").versions("records/v1/")) == []


def test_a_file_that_vanishes_is_told(tmp_path: Path) -> None:
    """Reading what is gone is an AuditError, not an empty object."""
    store = FolderStore(tmp_path)
    store.put("records/v1/x", b"one")
    (version,) = store.versions("records/v1/")
    (tmp_path / "records/v1/x").unlink()
    with pytest.raises(AuditError, match="cannot be read"):
        b"".join(store.read(version).chunks)


def test_nothing_is_hidden(tmp_path: Path) -> None:
    """A hidden file is listed like any other, so that nothing can be put aside under such a name."""
    store = FolderStore(tmp_path)
    store.put("records/v1/x", b"one")
    (tmp_path / "records/v1/.y.tmp").touch()
    assert [version.key for version in store.versions("records/v1/")] == ["records/v1/.y.tmp", "records/v1/x"]


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    """A link, even to the true bytes, or a pipe, which would block, reads as nothing and is told; a file is read."""
    store = FolderStore(tmp_path)
    store.put("records/v1/x", b"one")
    (tmp_path / "records/v1/y").symlink_to(tmp_path / "records/v1/x")
    os.mkfifo(tmp_path / "records/v1/z")
    bodies = [store.read(version) for version in store.versions("records/v1/")]
    assert [b"".join(body.chunks) for body in bodies] == [b"one", b"", b""]
    assert ["not a plain file" in body.unlocked for body in bodies] == [False, True, True]
