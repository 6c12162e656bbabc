"""Encryption at rest: wrapped data keys, values sealed with AES-GCM, keyed hashes for look-up."""

from __future__ import annotations

import hashlib
import hmac
import os

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

KEY_BYTES = 32
_NONCE_BYTES = 12


class SealBroken(Exception):
    """A sealed value was changed, moved to another row or column, or its key is not this one."""


def new_key() -> bytes:
    """A fresh AES-256 key."""
    return os.urandom(KEY_BYTES)


def seal(key: bytes, key_id: int, value: bytes, place: str) -> bytes:
    """Encrypts a value for one place. `place` names table, column and row, so that it fits nowhere else.

    Layout: key id (1 byte), nonce (12), ciphertext and tag.
    """
    nonce = os.urandom(_NONCE_BYTES)
    return bytes((key_id,)) + nonce + AESGCM(key).encrypt(nonce, value, place.encode())


def unseal(key: bytes, sealed: bytes, place: str) -> bytes:
    """The value of `seal`. Raises SealBroken."""
    nonce, ciphertext = sealed[1 : 1 + _NONCE_BYTES], sealed[1 + _NONCE_BYTES :]
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, place.encode())
    except (InvalidTag, ValueError) as error:
        raise SealBroken(place) from error


class Vault:
    """What a service derives from its master key: one key for each purpose, by HKDF.

    `key_id` stands in every value, so that a new master key can be told from the old one.
    """

    def __init__(self, master_key: bytes, *, key_id: int = 1) -> None:
        if len(master_key) != KEY_BYTES:
            raise ValueError(f"the master key must have {KEY_BYTES} bytes")
        self.key_id = key_id
        self._master_key = master_key
        self._wrapping = self.derive("wrap")

    def derive(self, purpose: str) -> bytes:
        """The 32-byte key of a purpose; always the same for the same master key."""
        return HKDF(SHA256(), KEY_BYTES, salt=None, info=f"sampan.{purpose}".encode()).derive(
            self._master_key
        )

    def wrap(self, data_key: bytes, place: str) -> bytes:
        """A data key, sealed by the master key."""
        return seal(self._wrapping, self.key_id, data_key, place)

    def unwrap(self, wrapped: bytes, place: str) -> bytes:
        """The data key of `wrap`. Raises SealBroken."""
        return unseal(self._wrapping, wrapped, place)


def keyed_hash(key: bytes, *parts: str) -> bytes:
    """HMAC-SHA-256 over parts that cannot run into each other. 32 bytes."""
    joined = b"".join(len(part.encode()).to_bytes(4, "big") + part.encode() for part in parts)
    return hmac.new(key, joined, hashlib.sha256).digest()
