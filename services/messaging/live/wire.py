"""What processes of messaging tell each other over core NATS: hints that may get lost. Their bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum
from uuid import UUID

from services.messaging.publishing import LiveEvent

BUCKETS = 256
LIVE = "sampan.messaging.live"
USER = "sampan.messaging.user"
ALIVE = "sampan.messaging.alive"
# Id of the process that speaks, at the head of every message.
PROCESS = 8
# The server takes 1 MiB.
_MOST = 512 * 1024
_EVENT = struct.Struct(">16sQI")
_NEWS = struct.Struct(">B16sQIB")


class Malformed(ValueError):
    """Bytes that no process of messaging sends."""


class Kind(IntEnum):
    """What is told about people in a dialog."""

    JOINED = 1
    LEFT = 2
    READ = 3
    TYPING = 4
    # A dialog has events up to `seq`: some may not have been told.
    HEAD = 5


@dataclass(frozen=True, slots=True)
class News:
    """Something about people in a dialog. `seq` and `unread` as the kind has them."""

    kind: Kind
    dialog_id: UUID
    user_ids: tuple[UUID, ...]
    seq: int = 0
    unread: int = 0
    to_all: bool = False


def bucket(of: UUID) -> str:
    """The bucket of a dialog or a person, two hex digits. The last byte of a UUIDv7 is random."""
    return f"{of.bytes[15]:02x}"


def pack_events(process: bytes, events: Sequence[LiveEvent]) -> Iterator[bytes]:
    """Messages that hold events, in their order."""
    parts, size = [process], 0
    for event in events:
        if size > _MOST - len(event.data):
            yield b"".join(parts)
            parts, size = [process], 0
        parts.append(_EVENT.pack(event.dialog_id.bytes, event.seq, len(event.data)))
        parts.append(event.data)
        size += len(event.data) + _EVENT.size
    if size:
        yield b"".join(parts)


def unpack_events(raw: bytes) -> list[LiveEvent]:
    """The events of a message. Raises Malformed."""
    found = []
    at, end = PROCESS, len(raw)
    while at < end:
        try:
            dialog, seq, size = _EVENT.unpack_from(raw, at)
        except struct.error as error:
            raise Malformed from error
        at += _EVENT.size
        if at + size > end:
            raise Malformed
        found.append(LiveEvent(UUID(bytes=dialog), seq, raw[at : at + size]))
        at += size
    return found


def pack_news(process: bytes, news: Iterable[News]) -> Iterator[bytes]:
    """Messages that hold news, a thousand people at most in each."""
    for one in news:
        for at in range(0, max(len(one.user_ids), 1), 1000):
            some = one.user_ids[at : at + 1000]
            head = _NEWS.pack(one.kind, one.dialog_id.bytes, one.seq, max(one.unread, 0), one.to_all)
            yield b"".join((process, head, *(user.bytes for user in some)))


def unpack_news(raw: bytes) -> News:
    """What a message says. Raises Malformed."""
    users = raw[PROCESS + _NEWS.size :]
    try:
        kind, dialog, seq, unread, to_all = _NEWS.unpack_from(raw, PROCESS)
        user_ids = tuple(UUID(bytes=users[at : at + 16]) for at in range(0, len(users), 16))
        return News(Kind(kind), UUID(bytes=dialog), user_ids, seq, unread, bool(to_all))
    except (struct.error, ValueError) as error:
        raise Malformed from error
