"""Ids: UUIDv7 (RFC 9562), ordered by the millisecond in which they were made."""

from __future__ import annotations

import secrets
import time
from functools import lru_cache
from uuid import UUID

from asyncpg.pgproto import pgproto

# Ids that are remembered as they were read: a parse costs as much as all else that a hot path does with one.
_REMEMBERED = 16_384


def uuid7() -> UUID:
    """A new UUIDv7: 48 bits of milliseconds, 74 random bits."""
    milliseconds = time.time_ns() // 1_000_000
    random = secrets.randbits(74)
    value = (milliseconds & 0xFFFF_FFFF_FFFF) << 80
    value |= 0x7 << 76
    value |= (random >> 62) << 64
    value |= 0b10 << 62
    value |= random & 0x3FFF_FFFF_FFFF_FFFF
    return pgproto.UUID(value.to_bytes(16, "big"))


@lru_cache(_REMEMBERED)
def read(text: str) -> UUID:
    """The id of a text. The same object again for the ids that were read last. Raises ValueError.

    It is asyncpg's kind of UUID: a UUID in every way, whose text, bytes and hash cost a tenth.
    """
    return pgproto.UUID(text)
