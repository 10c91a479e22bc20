"""Checkpoints: signed statements of how many records there are and their Merkle root (C2SP tlog-checkpoint)."""

import base64
import binascii
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from mcp_sod.errors import AuditError

_ED25519 = b"\x01"  # C2SP signed-note, signature types
_LONGEST = 16_384  # bytes; a checkpoint with many witnesses is about two kilobytes


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The log `origin` holds `size` records, and this is the root of their tree."""

    origin: str
    size: int
    root: bytes

    def text(self) -> str:
        """Return the three lines that are signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


@dataclass(frozen=True, slots=True)
class PublicKey:
    """What an auditor needs to check one log's checkpoints; written as `name+hash+key`, a C2SP verifier key."""

    name: str
    key: Ed25519PublicKey

    @classmethod
    def parse(cls, text: str) -> "PublicKey":
        """Read one verifier key, or raise an AuditError."""
        try:
            name, digest, encoded = text.strip().split("+", 2)
            raw = base64.b64decode(encoded, validate=True)
            if raw[:1] != _ED25519:
                raise AuditError("The verifier key is not an Ed25519 key.", hint=_KEY_HINT)
            key = cls(name, Ed25519PublicKey.from_public_bytes(raw[1:]))
        except ValueError:
            raise AuditError("The verifier key cannot be read.", hint=_KEY_HINT) from None
        if not name or key.digest.hex() != digest:
            raise AuditError("The verifier key does not match the hash in it.", hint=_KEY_HINT)
        return key

    @property
    def raw(self) -> bytes:
        """Return the signature type and the 32 bytes of the key."""
        return _ED25519 + self.key.public_bytes_raw()

    @property
    def digest(self) -> bytes:
        """Return the four bytes by which signatures name this key."""
        return hashlib.sha256(f"{self.name}\n".encode() + self.raw).digest()[:4]

    def __str__(self) -> str:
        """Return the verifier key as it stands in its file."""
        return f"{self.name}+{self.digest.hex()}+{base64.b64encode(self.raw).decode()}"


@dataclass(frozen=True, slots=True)
class Signer:
    """Signs the checkpoints of the log `name`."""

    name: str
    key: Ed25519PrivateKey

    @property
    def public(self) -> PublicKey:
        """Return the key that auditors check with."""
        return PublicKey(self.name, self.key.public_key())

    def sign(self, size: int, root: bytes) -> bytes:
        """Return a signed note; Ed25519 gives the same bytes for the same checkpoint every time."""
        text = Checkpoint(self.name, size, root).text()
        signature = base64.b64encode(self.public.digest + self.key.sign(text.encode())).decode()
        return f"{text}\n— {self.name} {signature}\n".encode()


def open_note(note: bytes, keys: Sequence[PublicKey]) -> Checkpoint:
    """Return what a note says if one of the keys signed it, or raise an AuditError.

    As C2SP signed-note asks, signatures of unknown keys are passed over, and a bad one of a known key spoils the note.
    """
    if len(note) > _LONGEST:
        raise AuditError(f"The checkpoint is longer than {_LONGEST} bytes.")
    try:
        text, _, signatures = note.decode().rpartition("\n\n")
        checkpoint = _read(text + "\n")
        good = [_signed(line, text + "\n", keys) for line in signatures.splitlines()]
    except (ValueError, InvalidSignature):
        raise AuditError("The checkpoint is malformed or its signature does not hold.") from None
    if not any(good):
        raise AuditError("The checkpoint is not signed by a key that was given.")
    return checkpoint


def _read(text: str) -> Checkpoint:
    origin, size, root, *_extensions, _end = text.split("\n")
    checkpoint = Checkpoint(origin, int(size), base64.b64decode(root, validate=True))
    if not text.startswith(checkpoint.text()):  # one spelling only: no "+1", no "01"
        raise ValueError(text)
    return checkpoint


def _signed(line: str, text: str, keys: Sequence[PublicKey]) -> bool:
    """Return whether this signature is by a known key; a known key's bad signature raises InvalidSignature."""
    dash, name, encoded = line.split(" ")
    signature = base64.b64decode(encoded, validate=True)
    if dash != "—":
        raise binascii.Error(line)
    known = next((key for key in keys if key.name == name and key.digest == signature[:4]), None)
    if known:
        known.key.verify(signature[4:], text.encode())
    return known is not None


_KEY_HINT = "It is one line, `name+hash+key`, as the gateway writes it into its .pub file."
