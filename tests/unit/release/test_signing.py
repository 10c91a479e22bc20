"""The key of assertions: made once, private, published as a key set, kept through a rotation."""

import hashlib
import json
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from mcp_sod.errors import StartError
from mcp_sod.release.signing import open_signer
from mcp_sod.signing_key import thumbprint

GATEWAY = "urn:mcp-sod:gw-test"


def pem(key: Ed25519PrivateKey) -> bytes:
    """A private key as a file holds it."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_the_key_is_made_once_and_for_its_owner_alone(tmp_path: Path) -> None:
    """The next start signs with the same key; nobody else can read it; nothing half-written lies about."""
    first = open_signer(tmp_path, GATEWAY).published
    assert open_signer(tmp_path, GATEWAY).published == first
    assert [(file.name, oct(file.stat().st_mode)[-3:]) for file in tmp_path.iterdir()] == [("assertion.key", "600")]


def test_what_is_published_verifies_what_is_signed_and_no_more(tmp_path: Path) -> None:
    """One public key, named by its thumbprint (RFC 7638), with no private part."""
    signer = open_signer(tmp_path, GATEWAY)
    (key,) = signer.published["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    members = json.dumps({name: key[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"))
    assert key["kid"] == thumbprint(hashlib.sha256(members.encode()).digest())
    signed = signer.sign({"sub": "ada"})
    assert jwt.get_unverified_header(signed) == {"alg": "ES256", "typ": "sod-assertion+jwt", "kid": key["kid"]}
    assert jwt.decode(signed, jwt.PyJWK(key), algorithms=["ES256"]) == {"iss": GATEWAY, "sub": "ada"}


def test_a_rotation_publishes_both(tmp_path: Path) -> None:
    """The key before stays published while its file is there; the new one signs."""
    (old,) = open_signer(tmp_path, GATEWAY).published["keys"]
    (tmp_path / "assertion.key").rename(tmp_path / "assertion.previous.key")
    signer = open_signer(tmp_path, GATEWAY)
    new, also = signer.published["keys"]
    assert also == old != new
    assert jwt.get_unverified_header(signer.sign({}))["kid"] == new["kid"]
    (tmp_path / "assertion.key").write_bytes((tmp_path / "assertion.previous.key").read_bytes())
    assert open_signer(tmp_path, GATEWAY).published == {"keys": [old]}  # no key twice: readers would refuse the set


@pytest.mark.parametrize("name", ["assertion.key", "assertion.previous.key"])
def test_a_key_that_cannot_be_used_stops_the_start(name: str, tmp_path: Path) -> None:
    """Damaged, of another kind, or open to everyone; the error names the file. The good one starts."""
    open_signer(tmp_path, GATEWAY)
    good, file = (tmp_path / "assertion.key").read_bytes(), tmp_path / name
    other = generate_private_key(SECP384R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"nonsense", good[:50], pem(Ed25519PrivateKey.generate()), other):
        file.write_bytes(content)
        file.chmod(0o600)
        with pytest.raises(StartError, match=f"{name} is no P-256 key"):
            open_signer(tmp_path, GATEWAY)
    file.write_bytes(good)
    file.chmod(0o644)
    with pytest.raises(StartError, match=f"{name} is open to every user"):
        open_signer(tmp_path, GATEWAY)
    file.chmod(0o600)
    assert open_signer(tmp_path, GATEWAY).published["keys"]


def test_a_folder_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    """The error names the key's file and why."""
    with pytest.raises(StartError, match=r"assertion\.key.* cannot be read or made: No such file"):
        open_signer(tmp_path / "nowhere", GATEWAY)
    (tmp_path / "assertion.key").mkdir(mode=0o700)
    with pytest.raises(StartError, match=r"assertion\.key cannot be read or made"):
        open_signer(tmp_path, GATEWAY)
