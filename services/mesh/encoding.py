"""Protobuf's bytes by hand, for what is told so often that filling its objects would cost more than all else.

Fields stand in the order of their numbers, as protobuf writes them, and what is empty is left out. Tests hold
all that is made of these against protobuf itself.
"""

from __future__ import annotations

from functools import lru_cache


def varint(value: int) -> bytes:
    """A number that is not negative, or a length, as protobuf writes it."""
    if value < 0x80:
        return _SMALL[value]
    if value < 0x4000:
        return bytes((value & 0x7F | 0x80, value >> 7))
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


_SMALL = tuple(bytes((value,)) for value in range(0x80))


def part(tag: bytes, value: bytes) -> bytes:
    """A field of bytes, a text or a message. `tag` is the number of the field << 3, and 2."""
    return b"".join((tag, varint(len(value)), value))


# What is written together has few stamps.
@lru_cache(256)
def timestamp(micros: int) -> bytes:
    """The content of a google.protobuf.Timestamp. `micros` since the epoch."""
    seconds, rest = divmod(micros, 1_000_000)
    nanos = b"\x10" + varint(rest * 1000) if rest else b""
    return b"".join((b"\x08", varint(seconds), nanos))
