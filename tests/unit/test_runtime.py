"""What is opened at the start."""

from pathlib import Path

import pytest
from mcp_sod.errors import SodError, StartError
from mcp_sod.runtime import _folder, _key, _stamp, open_runtime


def test_a_stamp_changes_with_the_folder(tmp_path: Path) -> None:
    """Any change to the policy's files changes it, another file's does not, and a folder that is gone has one."""
    seen = {_stamp(tmp_path)}
    (tmp_path / "a.yaml").write_text("x: 1")
    seen.add(_stamp(tmp_path))
    (tmp_path / "b.yaml").write_text("x: 1")
    seen.add(_stamp(tmp_path))
    (tmp_path / "a.yaml").write_text("x: 12")
    seen.add(_stamp(tmp_path))
    (tmp_path / "b.yaml").unlink()
    seen.add(_stamp(tmp_path))
    assert len(seen) == 5
    (tmp_path / "notes.txt").write_text("x")
    assert _stamp(tmp_path) in seen
    assert isinstance(_stamp(tmp_path / "gone"), str)


def test_the_fingerprint_key_is_made_once(tmp_path: Path) -> None:
    """A key of 32 bytes that only the gateway can read, the same at the next start; a damaged one stops the start."""
    file = tmp_path / "fingerprint.key"
    key = _key(file)
    assert len(key) == 32
    assert file.stat().st_mode & 0o777 == 0o600
    assert _key(file) == key
    file.write_bytes(b"short")
    with pytest.raises(StartError, match=r"fingerprint\.key is damaged"):
        _key(file)


def test_a_state_folder_is_private_and_named_when_it_fails(tmp_path: Path) -> None:
    """The state folder is the gateway's alone; where it cannot be made, the error says which and what to change."""
    assert _folder(tmp_path / "a" / "state").stat().st_mode & 0o777 == 0o700
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match=r"file/state cannot be used: .* Change gateway\.state"):
        _folder(tmp_path / "file" / "state")


def test_a_wrong_folder_does_not_start(tmp_path: Path) -> None:
    """Without a policy there is no runtime, and the error says where it looked."""
    with pytest.raises(SodError, match="holds no"):
        open_runtime(tmp_path)
