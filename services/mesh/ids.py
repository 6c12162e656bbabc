"""Ids: UUIDv7 (RFC 9562), ordered by the millisecond in which they were made."""

from __future__ import annotations

import os
import time
from collections import deque
from functools import lru_cache
from uuid import UUID

from asyncpg.pgproto import pgproto

# Of the lower 80 bits, those that are random; and the others.
_RANDOM_BITS = 0x0FFF_3FFF_FFFF_FFFF_FFFF
_VERSION = 0x7000_8000_0000_0000_0000
# Drawn at once: to ask the kernel for each id costs more than to make it. A child process draws its own.
_DRAWN = 256
_spare: deque[int] = deque()
os.register_at_fork(after_in_child=_spare.clear)
# Ids that are remembered as they were read: a parse costs as much as all else that a hot path does with one.
_REMEMBERED = 16_384


def uuid7() -> UUID:
    """A new UUIDv7: 48 bits of milliseconds, 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80 | _random() & _RANDOM_BITS | _VERSION
    return pgproto.UUID(value.to_bytes(16, "big"))


def _random() -> int:
    """80 random bits, each only once."""
    try:
        return _spare.pop()
    except IndexError:
        drawn = os.urandom(10 * _DRAWN)
        _spare.extend(int.from_bytes(drawn[at : at + 10], "big") for at in range(10, len(drawn), 10))
        return int.from_bytes(drawn[:10], "big")


@lru_cache(_REMEMBERED)
def read(text: str) -> UUID:
    """The id of a text. The same object again for the ids that were read last. Raises ValueError.

    It is asyncpg's kind of UUID: a UUID in every way, whose text, bytes and hash cost a tenth.
    """
    return pgproto.UUID(text)
