"""The signing key's file."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from mcp_sod.audit.keys import open_signer, public_path
from mcp_sod.audit.note import PublicKey
from mcp_sod.errors import AuditError


def test_makes_the_key_once(tmp_path: Path) -> None:
    """A missing key is made, readable by its owner only, with its public key beside it; then it stays."""
    path = tmp_path / "keys" / "audit.key"
    first = open_signer(path, "mcp-sod/gw-1", create=True)
    assert path.stat().st_mode & 0o777 == 0o600
    assert PublicKey.parse(public_path(path).read_text()) == first.public
    public_path(path).unlink()
    assert open_signer(path, "mcp-sod/gw-1", create=False).public == first.public
    assert public_path(path).exists()


def test_never_replaces_a_lost_key(tmp_path: Path) -> None:
    """Where a log exists already, a missing key is an AuditError with a remedy: a new key would start a new history."""
    with pytest.raises(AuditError, match=r"audit\.key.*Restore it"):
        open_signer(tmp_path / "audit.key", "mcp-sod/gw-1", create=False)


def test_refuses_a_key_that_everyone_can_read(tmp_path: Path) -> None:
    """A signing key that is open to every user is refused; the same key, closed, is taken."""
    path = tmp_path / "audit.key"
    open_signer(path, "mcp-sod/gw-1", create=True)
    path.chmod(0o644)
    with pytest.raises(AuditError, match="chmod 600"):
        open_signer(path, "mcp-sod/gw-1", create=False)
    path.chmod(0o600)
    open_signer(path, "mcp-sod/gw-1", create=False)


def test_refuses_a_malformed_key(tmp_path: Path) -> None:
    """A file that is no PEM, and a key of another kind, are an AuditError that names the file."""
    path = tmp_path / "audit.key"
    ecdsa = generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"no key", ecdsa):
        path.write_bytes(content)
        path.chmod(0o600)
        with pytest.raises(AuditError, match=str(path)):
            open_signer(path, "mcp-sod/gw-1", create=True)
