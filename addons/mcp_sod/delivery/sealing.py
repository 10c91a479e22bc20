"""Keeps bodies at rest: AES-256-GCM (NIST SP 800-38D), bound to the row that each belongs to."""

import hashlib
import json
import os
from dataclasses import replace

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from mcp_sod.delivery.shelf import Parcel
from mcp_sod.errors import Unavailable

_NONCE = 12  # bytes; a random one a body: 2^32 bodies a key are far away
_MARK = 8  # bytes that tell which key sealed a body


class Seal:
    """Seals and opens bodies with one key of 32 bytes."""

    def __init__(self, key: bytes) -> None:
        """`key`: the gateway's; several that share a database share it, too."""
        self._cipher = AESGCM(key)
        self._mark = hashlib.sha256(b"mcp-sod delivery key\0" + key).digest()[:_MARK]

    def closed(self, parcel: Parcel, body: bytes) -> Parcel:
        """Return the parcel with the body in it, sealed."""
        nonce = os.urandom(_NONCE)
        sealed = self._cipher.encrypt(nonce, body, _bound(parcel))
        return replace(parcel, body=self._mark + nonce + sealed, size=len(body))

    def opened(self, parcel: Parcel) -> bytes:
        """Return the parcel's body; raises Unavailable where key or row are not those with which it was sealed."""
        sealed = parcel.body or b""
        if sealed[:_MARK] != self._mark:
            raise Unavailable(
                "The kept result cannot be opened: it was sealed with another key than this gateway's.",
                hint="Gateways that share gateway.database need the same keys/delivery.key.",
            )
        nonce, rest = sealed[_MARK : _MARK + _NONCE], sealed[_MARK + _NONCE :]
        try:
            return self._cipher.decrypt(nonce, rest, _bound(parcel))
        except (InvalidTag, ValueError):
            raise Unavailable(
                "The kept result cannot be opened: its row in the gateway's database was altered.",
                hint="Tell whoever looks after the gateway; the call must be sent again.",
            ) from None


def _bound(parcel: Parcel) -> bytes:
    """Return what a body is bound to: who sent it, what it is of, for whom and until when."""
    return json.dumps([
        parcel.id, parcel.created, parcel.expires, parcel.reference, parcel.account, sorted(parcel.behind),
        parcel.upstream, parcel.tool, parcel.role, parcel.policy,
    ]).encode()  # fmt: skip
