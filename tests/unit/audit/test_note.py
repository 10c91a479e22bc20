"""Checkpoints and keys."""

import base64

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from mcp_sod.audit.note import PublicKey, Signer, open_note
from mcp_sod.errors import AuditError

SIGNER = Signer("mcp-sod/gw-1", Ed25519PrivateKey.from_private_bytes(bytes(range(32))))
OTHER = Signer("mcp-sod/gw-1", Ed25519PrivateKey.from_private_bytes(bytes(32)))
ROOT = bytes(range(32))
NOTE = SIGNER.sign(7, ROOT)


def test_round_trip() -> None:
    """What was signed is read back with the public key in its written form, and signing again gives the same bytes."""
    checkpoint = open_note(NOTE, [PublicKey.parse(str(SIGNER.public))])
    assert (checkpoint.origin, checkpoint.size, checkpoint.root) == ("mcp-sod/gw-1", 7, ROOT)
    assert SIGNER.sign(7, ROOT) == NOTE


def test_shape() -> None:
    """A checkpoint is three lines, an empty one, and a signature line that begins with an em dash (C2SP)."""
    root = base64.b64encode(ROOT).decode()
    assert NOTE.decode().startswith(f"mcp-sod/gw-1\n7\n{root}\n\n— mcp-sod/gw-1 ")


def test_reads_the_published_verifier_key() -> None:
    """The example key of Go's note package, which defined the format, is read and written back as it stands."""
    text = "PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW"
    assert str(PublicKey.parse(text)) == text


def test_passes_over_unknown_signatures() -> None:
    """A second signature by a witness that nobody asked about does no harm."""
    line = OTHER.sign(7, ROOT).decode().rpartition("\n\n")[2]
    assert open_note(NOTE + line.encode(), [SIGNER.public]).size == 7


@pytest.mark.parametrize(
    "note",
    [
        NOTE.replace(b"\n7\n", b"\n8\n"),
        NOTE.replace(b"\n7\n", b"\n07\n"),
        OTHER.sign(7, ROOT),
        NOTE.rpartition("\n— ".encode())[0],
        NOTE.replace("—".encode(), b"-"),
        b"",
        b"\xff",
        NOTE + b"x" * 20_000,
    ],
    ids=["size", "spelling", "other key", "unsigned", "dash", "empty", "no text", "long"],
)
def test_refuses_what_the_key_did_not_sign(note: bytes) -> None:
    """An altered, unsigned, or otherwise signed checkpoint is an AuditError."""
    with pytest.raises(AuditError):
        open_note(note, [SIGNER.public])


@pytest.mark.parametrize("text", ["", "a+b", "a+00000000+AAAA", str(SIGNER.public).replace("gw-1", "gw-2")])
def test_refuses_a_broken_public_key(text: str) -> None:
    """A verifier key that is malformed, or does not match its own hash, is an AuditError."""
    with pytest.raises(AuditError, match="verifier key"):
        PublicKey.parse(text)
