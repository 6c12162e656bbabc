"""What messaging tells other contexts of an event of the log: ids and times, never what was said."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from google.protobuf.message import Message

from sampan.messaging.v1 import events_pb2, frame_pb2
from services.mesh.relay import Row
from services.messaging.domain import message_id
from services.messaging.events import moment

_PREFIX = "sampan.messaging."
# Of all that messaging says on the bus the stream has these; what is told live is not kept there.
SUBJECTS = tuple(f"{_PREFIX}{about}.*" for about in ("message", "reaction", "dialog", "member"))


def event_id(dialog_id: UUID, seq: int) -> UUID:
    """The same for an event whenever it is published: by it repeats are known."""
    raw = bytearray(hashlib.blake2b(dialog_id.bytes + seq.to_bytes(8, "big"), digest_size=16).digest())
    # UUIDv8: what its bits mean is our own business.
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    return UUID(bytes=bytes(raw))


def outgoing(row: Row) -> dict[str, Any]:
    """A row of the log as a relay takes it."""
    dialog_id, seq = row["dialog_id"], row["seq"]
    subject, payload = _created(row) if row["payload"] is None else _changed(row)
    return {
        "id": event_id(dialog_id, seq),
        "created_at": row["created_at"],
        "subject": _PREFIX + subject,
        "aggregate_id": dialog_id,
        "aggregate_version": seq,
        "payload": payload.SerializeToString(deterministic=True),
        "traceparent": "",
    }


def _created(row: Row) -> tuple[str, Message]:
    dialog_id = row["dialog_id"]
    told = events_pb2.MessageWritten(
        message_id=message_id(dialog_id, row["seq"]),
        dialog_id=str(dialog_id),
        seq=row["seq"],
        sender_id=str(row["actor_id"]),
        type=row["type"],
        mentions=map(str, row["mentions"] or ()),
        file_ids=map(str, row["file_ids"] or ()),
        created_at=moment(row["created_at"]),
    )
    if row["thread_seq"] is not None:
        told.thread_id = message_id(dialog_id, row["thread_seq"])
    if row["reply_to"] is not None:
        told.reply_to = message_id(dialog_id, row["reply_to"])
    return "message.created", told


def _changed(row: Row) -> tuple[str, Message]:
    event = frame_pb2.Event.FromString(row["payload"])
    event.dialog_id, event.seq, event.actor_id = str(row["dialog_id"]), row["seq"], str(row["actor_id"])
    kind = event.WhichOneof("change") or ""
    subject, make = CHANGES[kind]
    return subject, make(event, getattr(event, kind), row["created_at"])


def _message(event: frame_pb2.Event, change: Any, at: datetime) -> Message:
    return events_pb2.MessageTouched(
        message_id=change.message_id,
        dialog_id=event.dialog_id,
        seq=event.seq,
        actor_id=event.actor_id,
        at=moment(at),
    )


def _dialog(event: frame_pb2.Event, change: Any, at: datetime) -> Message:
    told = events_pb2.DialogTouched(
        dialog_id=event.dialog_id, seq=event.seq, actor_id=event.actor_id, at=moment(at)
    )
    if isinstance(change, frame_pb2.DialogCreated):
        told.kind = change.kind
        told.member_ids.extend(change.member_ids)
    return told


def _member(event: frame_pb2.Event, change: Any, at: datetime) -> Message:
    return events_pb2.MembershipTouched(
        dialog_id=event.dialog_id,
        seq=event.seq,
        user_id=change.user_id,
        role=change.role,
        actor_id=event.actor_id,
        at=moment(at),
    )


# By the field of Event.change: the subject, and what makes its payload.
CHANGES: Mapping[str, tuple[str, Callable[[frame_pb2.Event, Any, datetime], Message]]] = {
    "message_edited": ("message.edited", _message),
    "message_deleted": ("message.deleted", _message),
    "reaction_added": ("reaction.added", _message),
    "reaction_removed": ("reaction.removed", _message),
    "dialog_created": ("dialog.created", _dialog),
    "dialog_updated": ("dialog.updated", _dialog),
    "member_added": ("member.added", _member),
    "member_removed": ("member.removed", _member),
    "member_role_changed": ("member.role_changed", _member),
}
