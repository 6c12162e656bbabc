"""What a client is told live, as typed values, and how a frame becomes them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sampan.messaging.v1 import frame_pb2
from services.client import models
from services.client.models import Message, moment


@dataclass(frozen=True, slots=True)
class Event:
    """A change of a dialog: number `seq` of its log, by `actor_id`."""

    dialog_id: str
    seq: int
    actor_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class MessageCreated(Event):
    """Somebody has written."""

    message: Message


@dataclass(frozen=True, slots=True)
class MessageEdited(Event):
    """A text was changed."""

    message_id: str
    message_seq: int
    text: str
    mentions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class MessageDeleted(Event):
    """A message was deleted."""

    message_id: str
    message_seq: int


@dataclass(frozen=True, slots=True)
class ReactionAdded(Event):
    """An emoji was put under a message."""

    message_id: str
    message_seq: int
    emoji: str


@dataclass(frozen=True, slots=True)
class ReactionRemoved(ReactionAdded):
    """An emoji was taken away."""


@dataclass(frozen=True, slots=True)
class DialogCreated(Event):
    """The dialog was made."""

    kind: str
    title: str
    member_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DialogUpdated(Event):
    """Title or description were changed."""

    title: str
    description: str


@dataclass(frozen=True, slots=True)
class MemberAdded(Event):
    """Somebody has joined or was added."""

    user_id: str
    role: str


@dataclass(frozen=True, slots=True)
class MemberRoleChanged(MemberAdded):
    """Somebody has another role."""


@dataclass(frozen=True, slots=True)
class MemberRemoved(Event):
    """Somebody has left or was removed."""

    user_id: str


@dataclass(frozen=True, slots=True)
class UnknownEvent(Event):
    """A change of a kind that this client does not know yet."""


@dataclass(frozen=True, slots=True)
class Receipt:
    """Somebody has read up to a message; `unread_count` only says something in one's own."""

    dialog_id: str
    user_id: str
    read_seq: int
    unread_count: int


@dataclass(frozen=True, slots=True)
class Typing:
    """Somebody is writing; good for 6 s."""

    dialog_id: str
    user_id: str


@dataclass(frozen=True, slots=True)
class Presence:
    """Somebody has come or gone: `online`, `away` or `offline`."""

    user_id: str
    status: str
    last_seen: datetime | None


@dataclass(frozen=True, slots=True)
class Head:
    """Where a dialog is; `left` when one is no longer in it."""

    dialog_id: str
    last_seq: int
    read_seq: int
    unread_count: int
    left: bool


@dataclass(frozen=True, slots=True)
class Truncated:
    """What was missed before `first_seq` is gone by age."""

    dialog_id: str
    first_seq: int


@dataclass(frozen=True, slots=True)
class Live:
    """All that was missed has been told: what follows is live."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The connection is gone, or none could be made; the next try is in `retry_in` seconds."""

    reason: str
    detail: str
    retry_in: float


@dataclass(frozen=True, slots=True)
class BegunAnew:
    """The server would not go on from the position kept: what was missed is to be read with `history`."""

    reason: str


Update = Event | Receipt | Typing | Presence | Head | Truncated | Live | Lost | BegunAnew


def updates_of(frame: frame_pb2.Frame) -> Iterator[Update]:
    """All that a frame says, in the order in which it counts."""
    for head in frame.heads:
        yield Head(head.dialog_id, head.last_seq, head.read_seq, head.unread_count, head.left)
    for cut in frame.truncated:
        yield Truncated(cut.dialog_id, cut.first_seq)
    for event in frame.events:
        yield event_of(event)
    for read in frame.receipts:
        yield Receipt(read.dialog_id, read.user_id, read.read_seq, read.unread_count)
    for typing in frame.typing:
        yield Typing(typing.dialog_id, typing.user_id)
    for one in frame.presence:
        yield Presence(one.user_id, one.status, moment(one.last_seen) if one.HasField("last_seen") else None)
    if frame.live:
        yield Live()


def event_of(raw: frame_pb2.Event) -> Event:
    """The typed event."""
    base = (raw.dialog_id, raw.seq, raw.actor_id, moment(raw.at))
    kind = raw.WhichOneof("change")
    if kind is None:
        return UnknownEvent(*base)
    return _EVENTS[kind](base, getattr(raw, kind))


Base = tuple[str, int, str, datetime]

_EVENTS: Mapping[str, Callable[[Base, Any], Event]] = {
    "message_created": lambda base, raw: MessageCreated(*base, models.message(raw)),
    "message_edited": lambda base, raw: MessageEdited(
        *base, raw.message_id, raw.message_seq, raw.content.text, tuple(raw.mentions)
    ),
    "message_deleted": lambda base, raw: MessageDeleted(*base, raw.message_id, raw.message_seq),
    "reaction_added": lambda base, raw: ReactionAdded(*base, raw.message_id, raw.message_seq, raw.emoji),
    "reaction_removed": lambda base, raw: ReactionRemoved(*base, raw.message_id, raw.message_seq, raw.emoji),
    "dialog_created": lambda base, raw: DialogCreated(*base, raw.kind, raw.title, tuple(raw.member_ids)),
    "dialog_updated": lambda base, raw: DialogUpdated(*base, raw.title, raw.description),
    "member_added": lambda base, raw: MemberAdded(*base, raw.user_id, raw.role),
    "member_removed": lambda base, raw: MemberRemoved(*base, raw.user_id),
    "member_role_changed": lambda base, raw: MemberRoleChanged(*base, raw.user_id, raw.role),
}
