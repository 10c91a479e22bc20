"""The file with the gateway's signing key, and the public key beside it."""

import stat
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from mcp_sod.audit.durable import write_file
from mcp_sod.audit.note import Signer
from mcp_sod.errors import AuditError


def public_path(path: Path) -> Path:
    """Return the place of the public key: `audit.key` has `audit.key.pub` beside it."""
    return path.with_name(path.name + ".pub")


def open_signer(path: Path, name: str, *, create: bool) -> Signer:
    """Return the signer whose key is in the file (PEM, PKCS 8), made first if it is missing and `create` is true.

    A key that is missing, unreadable, malformed or open to everyone is an AuditError that names the file.
    """
    try:
        if create and not path.exists():
            _make(path)
        signer = Signer(name, _load(path))
        _publish(path, signer)
    except OSError as error:
        sentence = f"The audit signing key {path} cannot be read or made: {error.strerror}."
        raise AuditError(sentence, hint=_RESTORE if not create else "Check the folder and its owner.") from None
    return signer


def _make(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = Ed25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    write_file(path, pem, mode=0o600)


def _load(path: Path) -> Ed25519PrivateKey:
    if path.stat().st_mode & stat.S_IRWXO:
        raise AuditError(f"The audit signing key {path} is open to every user.", hint=f"Run: chmod 600 {path}")
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise AuditError(f"The audit signing key {path} cannot be parsed.", hint=_RESTORE) from None
    if not isinstance(key, Ed25519PrivateKey):
        raise AuditError(f"The audit signing key {path} is not an Ed25519 key.", hint=_RESTORE)
    return key


def _publish(path: Path, signer: Signer) -> None:
    """Write the public key beside the key, if it is not there or is another one."""
    public, text = public_path(path), f"{signer.public}\n".encode()
    if not (public.exists() and public.read_bytes() == text):
        write_file(public, text, mode=0o644)


_RESTORE = (
    "Restore it from your backup (PEM, PKCS 8, Ed25519), or start a new log: "
    "a new gateway name and an empty state folder."
)
