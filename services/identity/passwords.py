"""Passwords: argon2id in a thread pool; bcrypt from older systems is accepted and upgraded."""

from __future__ import annotations

import asyncio
import secrets
from concurrent.futures import ThreadPoolExecutor

import bcrypt
from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError
from argon2.low_level import Type, hash_secret_raw
from zxcvbn.frequency_lists import FREQUENCY_LISTS

_BCRYPT_PREFIXES = ("$2a$", "$2b$", "$2y$")
# bcrypt reads no more of a password than this.
_BCRYPT_BYTES = 72

MIN_LENGTH = 8
_COMMON = frozenset(word for word in FREQUENCY_LISTS["passwords"] if len(word) >= MIN_LENGTH)


def is_common(password: str) -> bool:
    """Whether a password is on the list of those that attackers try first (source: zxcvbn)."""
    return password.lower() in _COMMON


class Passwords:
    """Hashes and verifies passwords, `threads` at a time, without holding up the event loop.

    `memory_kib`, `passes` and `lanes` are argon2id's parameters.
    """

    def __init__(self, *, memory_kib: int, passes: int, lanes: int, threads: int) -> None:
        self._hasher = PasswordHasher(time_cost=passes, memory_cost=memory_kib, parallelism=lanes)
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="password")
        # Verified in place of a password that does not exist, so that both take as long.
        self._nobody = self._hasher.hash(secrets.token_urlsafe(16))

    async def hash(self, password: str) -> str:
        """The argon2id hash of a password, in PHC form."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._hasher.hash, password)

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether a password fits. Takes as long when there is no hash to compare with."""
        loop = asyncio.get_running_loop()
        fits = await loop.run_in_executor(self._pool, self._verify, hashed or self._nobody, password)
        return fits and hashed is not None

    async def stretch(self, secret: bytes, salt: bytes) -> bytes:
        """32 bytes, always the same for the same secret and salt, as slow to make as a hash."""
        return await asyncio.get_running_loop().run_in_executor(self._pool, self._stretch, secret, salt)

    def is_outdated(self, hashed: str) -> bool:
        """Whether a hash was made by other means than today's and should be made anew."""
        return hashed.startswith(_BCRYPT_PREFIXES) or self._hasher.check_needs_rehash(hashed)

    def _stretch(self, secret: bytes, salt: bytes) -> bytes:
        made = self._hasher
        return hash_secret_raw(
            secret, salt, made.time_cost, made.memory_cost, made.parallelism, hash_len=32, type=Type.ID
        )

    def _verify(self, hashed: str, password: str) -> bool:
        if hashed.startswith(_BCRYPT_PREFIXES):
            return bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], hashed.encode())
        try:
            return self._hasher.verify(hashed, password)
        except (VerificationError, InvalidHashError):
            return False

    async def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(wait=False)
