"""Resume tokens: one opaque text that says where a device is in all its dialogs. Nothing is kept for it."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from services.messaging.errors import ResumeTokenInvalid

VERSION = 1
# Version, when it was made in milliseconds, and where dialogs that are not listed stand, in seconds.
_HEADER = struct.Struct(">BQI")
_ENTRY = 16 + 8
_MAC = 16
# The contract allows 65536 characters.
MOST_ENTRIES = (65_536 // 4 * 3 - _HEADER.size - _MAC) // _ENTRY


@dataclass(frozen=True, slots=True)
class Position:
    """Where a device is. `stamp` in milliseconds, later in newer tokens of a device; `cold` in seconds.

    In a dialog that is not listed in `cursors` it has seen what was written before `cold`, and nothing else.
    """

    stamp: int
    cold: int
    cursors: dict[UUID, int]


class Tokens:
    """Makes and reads tokens. They fit one person, and are good for `days`."""

    def __init__(self, key: bytes, *, days: int) -> None:
        self._blank = hashlib.blake2b(key=key, digest_size=_MAC)
        self._age = days * 86_400_000

    def make(self, user: bytes, stamp: int, cold: int, entries: Iterable[bytes]) -> bytes:
        """A token; entries as `frames.entry` makes them, at most MOST_ENTRIES."""
        body = _HEADER.pack(VERSION, stamp, cold) + b"".join(entries)
        mac = self._blank.copy()
        mac.update(user + body)
        return base64.urlsafe_b64encode(body + mac.digest()).rstrip(b"=")

    def read(self, user: UUID, token: str, now: float) -> Position:
        """What a token says. Raises ResumeTokenInvalid when it is not this person's or too old."""
        raw = _decoded(token)
        size = len(raw) - _HEADER.size - _MAC
        if size < 0 or size % _ENTRY:
            raise ResumeTokenInvalid
        body, given = raw[:-_MAC], raw[-_MAC:]
        mac = self._blank.copy()
        mac.update(user.bytes + body)
        if not hmac.compare_digest(mac.digest(), given):
            raise ResumeTokenInvalid
        version, stamp, cold = _HEADER.unpack_from(body)
        if version != VERSION or now * 1000 - stamp > self._age:
            raise ResumeTokenInvalid
        return Position(stamp, cold, dict(_entries(body)))


def packed(token: str) -> bytes:
    """A token that `Tokens.read` took, as it is stored: half as long again as the text would be."""
    return _decoded(token)


def unpacked(raw: bytes) -> str:
    """The token of what `packed` gave."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _entries(body: bytes) -> Iterable[tuple[UUID, int]]:
    for at in range(_HEADER.size, len(body), _ENTRY):
        yield UUID(bytes=body[at : at + 16]), int.from_bytes(body[at + 16 : at + _ENTRY], "big")


def _decoded(token: str) -> bytes:
    """The bytes of a token in the one form that it may have."""
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise ResumeTokenInvalid from error
    if base64.urlsafe_b64encode(raw).rstrip(b"=").decode() != token:
        raise ResumeTokenInvalid
    return raw
