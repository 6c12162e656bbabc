"""Protobuf's bytes by hand, for what is told so often that filling its objects would cost more than all else.

Fields stand in the order of their numbers, as protobuf writes them, and what is empty is left out. Tests hold
all that is made of these against protobuf itself.
"""

from __future__ import annotations

from functools import lru_cache

# Lengths and numbers below this are looked up.
_FEW = 0x800


def varint(value: int) -> bytes:
    """A number that is not negative, or a length, as protobuf writes it."""
    if value < _FEW:
        return _VARINTS[value]
    return _varint(value)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 0x80:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


_VARINTS = tuple(map(_varint, range(_FEW)))


def part(tag: bytes, value: bytes) -> bytes:
    """A field of bytes, a text or a message. `tag` is the number of the field << 3, and 2."""
    # Not by `varint`: to call it costs as much as all of this.
    size = len(value)
    return b"".join((tag, _VARINTS[size] if size < _FEW else _varint(size), value))


# What is written together has few stamps.
@lru_cache(256)
def timestamp(micros: int) -> bytes:
    """The content of a google.protobuf.Timestamp. `micros` since the epoch."""
    seconds, rest = divmod(micros, 1_000_000)
    nanos = b"\x10" + varint(rest * 1000) if rest else b""
    return b"".join((b"\x08", varint(seconds), nanos))
