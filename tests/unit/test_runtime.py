"""What is opened at the start."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from mcp_sod.errors import SodError, StartError
from mcp_sod.runtime import _folder, _key, _stamp, open_runtime

from tests.unit.making import policy_of
from tests.world.issuer import Issuer
from tests.world.policies import identity
from tests.world.process import free_port


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


async def test_a_refused_policy_is_tried_again(issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that refers to a file which comes later is in force once it is there; till then, on record once."""
    monkeypatch.setattr("mcp_sod.runtime.WATCH", 0.01)
    gateway = {"name": "gw-test", "state": "state", "console": f"127.0.0.1:{free_port()}"}
    runtime = open_runtime(policy_of(tmp_path, gateway=gateway).folder)
    written: list[str] = []

    async def write(event: str, **_: object) -> None:
        written.append(event)

    monkeypatch.setattr(runtime.journal, "write", write)
    watching = asyncio.create_task(runtime._watch())  # noqa: SLF001 (the rest of what runs beside it has nothing to do with it)
    try:
        await asyncio.sleep(0.05)
        keys = issuer.jwks_file.read_text()
        issuer.jwks_file.unlink()
        changed = policy_of(tmp_path, gateway=gateway, **identity(issuer))
        await until(lambda: bool(written))
        await asyncio.sleep(0.3)
        assert written == ["policy refused"]
        issuer.jwks_file.write_text(keys)
        await until(lambda: runtime.policy.digest == changed.digest)
        assert written == ["policy refused", "policy changed"]
    finally:
        watching.cancel()
        runtime.database.close()


async def until(true: Callable[[], bool]) -> None:
    """Waits until it is so."""
    async with asyncio.timeout(5):
        while not true():  # noqa: ASYNC110 (what is waited for has no event)
            await asyncio.sleep(0.01)
