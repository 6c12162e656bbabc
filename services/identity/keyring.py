"""The keys that access tokens are signed with: made on first use, private halves sealed in the database."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from services.identity import repository
from services.identity.repository import StoredKey
from services.mesh.clock import Clock, moment
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key
from services.mesh.vault import Vault, seal, unseal

# An unknown key id asks the database again, but not more often than this, in seconds.
_RELOAD_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair. `kid` is its RFC 7638 thumbprint; it signs from `active_from` on."""

    kid: str
    private: Ed25519PrivateKey
    public: Ed25519PublicKey
    active_from: datetime


def base64url(raw: bytes) -> str:
    """base64url without padding."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def thumbprint(public: bytes) -> str:
    """The RFC 7638 thumbprint of an Ed25519 public key."""
    canonical = f'{{"crv":"Ed25519","kty":"OKP","x":"{base64url(public)}"}}'
    return base64url(hashlib.sha256(canonical.encode()).digest())


class KeyRing:
    """All signing keys, the last to become active first. `load` before use, and now and then.

    A key that was replaced more than `token_life` ago is no longer published.
    """

    def __init__(
        self,
        database: Database,
        vault: Vault,
        idempotency: Idempotency,
        clock: Clock,
        *,
        notice: timedelta,
        token_life: timedelta,
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._key_id = vault.key_id
        self._sealing = vault.derive("signing-keys")
        self._clock = clock
        self._notice = notice
        self._token_life = token_life
        self._keys: tuple[SigningKey, ...] = ()
        self._loaded_at = 0.0

    async def load(self) -> None:
        """Reads the keys, and makes the first when there is none. Safe in several processes at once."""
        async with self._database.transaction() as connection:
            stored = await repository.all_signing_keys(connection)
            if not stored:
                await repository.lock_signing_keys(connection)
                stored = await repository.all_signing_keys(connection)
            if not stored:
                stored = [self._make(moment(self._clock()))]
                await repository.insert_signing_key(connection, stored[0])
        self._keys = tuple(self._open(key) for key in stored)
        self._loaded_at = self._clock()

    async def rotate(self, key: Key | None = None) -> SigningKey:
        """Makes a key that is published now and signs after the notice. Raises Unavailable.

        A repeated request is answered with the key that the first one made.
        """
        made = self._make(moment(self._clock()) + self._notice)
        kid = made.kid
        async with self._database.transaction("rotate_keys") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is None:
                await repository.lock_signing_keys(connection)
                await repository.insert_signing_key(connection, made)
                await self._idempotency.keep(connection, key, kid.encode())
            else:
                kid = known.decode()
        await self.load()
        return next(one for one in self._keys if one.kid == kid)

    @property
    def newest(self) -> SigningKey:
        """The key to sign with: the last that has become active."""
        return self.at(moment(self._clock()))

    def at(self, when: datetime) -> SigningKey:
        """The key that signed, or will sign, at a time."""
        return next((key for key in self._keys if key.active_from <= when), self._keys[-1])

    @property
    def all(self) -> tuple[SigningKey, ...]:
        """Every key that tokens may be signed with, or will be soon."""
        replaced_at = self.newest.active_from
        if moment(self._clock()) - replaced_at > self._token_life:
            return tuple(key for key in self._keys if key.active_from >= replaced_at)
        return self._keys

    async def find(self, kid: str) -> Ed25519PublicKey | None:
        """The public key of an id, or None; looks again at the database for one it does not know."""
        found = self._find(kid)
        if found is None and self._clock() - self._loaded_at >= _RELOAD_SECONDS:
            await self.load()
            found = self._find(kid)
        return found

    def _find(self, kid: str) -> Ed25519PublicKey | None:
        return next((key.public for key in self.all if key.kid == kid), None)

    def _make(self, active_from: datetime) -> StoredKey:
        private = Ed25519PrivateKey.generate()
        public = private.public_key().public_bytes_raw()
        kid = thumbprint(public)
        sealed = seal(self._sealing, self._key_id, private.private_bytes_raw(), _place(kid))
        return StoredKey(kid, public, sealed, active_from)

    def _open(self, key: StoredKey) -> SigningKey:
        raw = unseal(self._sealing, key.sealed, _place(key.kid))
        private = Ed25519PrivateKey.from_private_bytes(raw)
        return SigningKey(key.kid, private, private.public_key(), key.active_from)


def _place(kid: str) -> str:
    return f"signing_keys.sealed:{kid}"
