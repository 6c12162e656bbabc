"""Parts of frames, encoded once for all who get them: protobuf bytes, and JSON when somebody wants it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from uuid import UUID

from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from sampan.messaging.v1 import frame_pb2, message_pb2
from services.mesh.encoding import part

if TYPE_CHECKING:
    from services.messaging.live.dialog import Dialog

# Tags of the fields of Frame: number << 3, and 2 for bytes that come after their length.
_RESUME, _EVENTS, _REPLIES = b"\x0a", b"\x12", b"\x5a"
# And of Reply.
_REF, _MESSAGE = b"\x0a", b"\x22"
# Tags of Event in the order in which its fields are written; ids are texts of 36 bytes.
_SEQ, _ACTOR, _AT = 0x10, 0x1A, 0x22
_ID = 2 + 36
MEMBER_ADDED = frame_pb2.Event.MEMBER_ADDED_FIELD_NUMBER
MEMBER_REMOVED = frame_pb2.Event.MEMBER_REMOVED_FIELD_NUMBER


def event_field(data: bytes) -> bytes:
    """A serialized Event as one of `Frame.events`."""
    return part(_EVENTS, data)


def resume_field(token: bytes) -> bytes:
    """A token as `Frame.resume`."""
    return part(_RESUME, token)


def change_of(data: bytes) -> int:
    """Which change a serialized Event tells of: the number of its field. 0 when it tells of none."""
    try:
        at = _ID
        if data[0] != 0x0A or data[at] != _SEQ:
            return _parsed_change(data)
        at += 1
        while data[at] & 0x80:
            at += 1
        at += 1
        if data[at] == _ACTOR:
            at += _ID
        if data[at] == _AT:
            at += 2 + data[at + 1]
        return data[at] >> 3 if data[at] & 0x80 == 0 and data[at] & 7 == 2 else _parsed_change(data)
    except IndexError:
        return _parsed_change(data)


def _parsed_change(data: bytes) -> int:
    event = frame_pb2.Event.FromString(data)
    name = event.WhichOneof("change")
    return event.DESCRIPTOR.fields_by_name[name].number if name else 0


def member_of(data: bytes) -> UUID:
    """Whom an event about a member is about."""
    event = frame_pb2.Event.FromString(data)
    changed = event.member_removed if event.HasField("member_removed") else event.member_added
    return UUID(changed.user_id)


class Piece:
    """Some fields of a frame, encoded. Pieces of events move the position of those who get them.

    `dialog` and `first` to `last` say which events it has; `entry` is what a resume token then says of the
    dialog. A piece with a `key` is state: a later one with the same key stands for it, too.
    """

    __slots__ = ("_texts", "data", "dialog", "entry", "first", "key", "last")

    def __init__(
        self,
        data: bytes,
        *,
        dialog: Dialog | None = None,
        first: int = 0,
        last: int = 0,
        entry: bytes = b"",
        key: tuple[object, ...] | None = None,
    ) -> None:
        self.data = data
        self.dialog = dialog
        self.first = first
        self.last = last
        self.entry = entry
        self.key = key
        self._texts: tuple[tuple[str, str], ...] | None = None

    @property
    def texts(self) -> tuple[tuple[str, str], ...]:
        """Each field with its value as JSON; entries of a repeated one with commas between."""
        if self._texts is None:
            self._texts = tuple(_texts(frame_pb2.Frame.FromString(self.data)))
        return self._texts


def _texts(frame: frame_pb2.Frame) -> Iterable[tuple[str, str]]:
    for field, value in frame.ListFields():
        if not field.is_repeated:
            yield field.name, json_of(value) if field.message_type else ("true" if value else "false")
        else:
            yield field.name, ",".join(json_of(one) for one in value)


def json_of(message: object) -> str:
    """A message as every door shows it: snake_case, with fields that are empty."""
    text: str = json_format.MessageToJson(
        message,  # type: ignore[arg-type]
        preserving_proto_field_name=True,
        always_print_fields_with_no_presence=True,
        indent=None,
        ensure_ascii=False,
    )
    return text


_REPEATED = frozenset(field.name for field in frame_pb2.Frame.DESCRIPTOR.fields if field.is_repeated)


def binary(pieces: Sequence[Piece], token: bytes) -> bytes:
    """A frame of pieces and a token, if it has one."""
    parts = [piece.data for piece in pieces]
    if token:
        parts.append(resume_field(token))
    return b"".join(parts)


def text(pieces: Sequence[Piece], token: bytes) -> str:
    """The same as JSON."""
    fields: dict[str, list[str]] = {}
    for piece in pieces:
        for name, value in piece.texts:
            fields.setdefault(name, []).append(value)
    shown = [f'"resume":"{token.decode()}"'] if token else []
    for name, values in fields.items():
        shown.append(f'"{name}":[{",".join(values)}]' if name in _REPEATED else f'"{name}":{values[-1]}')
    return "{" + ",".join(shown) + "}"


def events(dialog: Dialog, first: int, fields: Sequence[bytes]) -> Piece:
    """Events with numbers from `first` on, each as `event_field` gives it."""
    last = first + len(fields) - 1
    data = fields[0] if len(fields) == 1 else b"".join(fields)
    return Piece(data, dialog=dialog, first=first, last=last, entry=entry(dialog.id, last))


def entry(dialog_id: UUID, seq: int) -> bytes:
    """What a resume token says of a dialog."""
    return dialog_id.bytes + seq.to_bytes(8, "big")


def _piece(frame: frame_pb2.Frame, key: tuple[object, ...] | None = None) -> Piece:
    return Piece(frame.SerializeToString(), key=key)


@dataclass(frozen=True, slots=True)
class Head:
    """Where a dialog is, for one person."""

    dialog_id: UUID
    last_seq: int
    read_seq: int
    unread: int
    left: bool = False


def heads(found: Iterable[Head]) -> Piece:
    """Where dialogs are."""
    return _piece(
        frame_pb2.Frame(
            heads=[
                frame_pb2.Head(
                    dialog_id=str(one.dialog_id),
                    last_seq=one.last_seq,
                    read_seq=one.read_seq,
                    unread_count=one.unread,
                    left=one.left,
                )
                for one in found
            ]
        )
    )


def departure(dialog: Dialog) -> Piece:
    """The last that comes of a dialog: one is in it no longer."""
    piece = heads([Head(dialog.id, dialog.head, 0, 0, left=True)])
    piece.dialog = dialog
    return piece


def receipt(dialog_id: UUID, user_id: UUID, read_seq: int, unread: int = 0) -> Piece:
    """How far somebody has read."""
    told = frame_pb2.Receipt(
        dialog_id=str(dialog_id), user_id=str(user_id), read_seq=read_seq, unread_count=unread
    )
    return _piece(frame_pb2.Frame(receipts=[told]), ("receipt", dialog_id, user_id))


def receipts(found: Iterable[tuple[UUID, UUID, int]]) -> Piece:
    """How far others have read: dialog, person, message."""
    told = [
        frame_pb2.Receipt(dialog_id=str(dialog), user_id=str(user), read_seq=seq)
        for dialog, user, seq in found
    ]
    return _piece(frame_pb2.Frame(receipts=told))


def typing(dialog_id: UUID, user_id: UUID) -> Piece:
    """Somebody is writing."""
    told = frame_pb2.Typing(dialog_id=str(dialog_id), user_id=str(user_id))
    return _piece(frame_pb2.Frame(typing=[told]), ("typing", dialog_id, user_id))


def presence(user_id: str, status: str, last_seen: Timestamp | None) -> Piece:
    """Somebody has come or gone."""
    told = frame_pb2.PresenceChange(user_id=user_id, status=status, last_seen=last_seen)
    return _piece(frame_pb2.Frame(presence=[told]), ("presence", user_id))


def truncated(dialog_id: UUID, first_seq: int) -> Piece:
    """Events before `first_seq` are gone by age."""
    told = frame_pb2.Truncated(dialog_id=str(dialog_id), first_seq=first_seq)
    return _piece(frame_pb2.Frame(truncated=[told]))


def reply(ref: str, reason: str = "", detail: str = "") -> Piece:
    """What became of a frame of the client."""
    return _piece(frame_pb2.Frame(replies=[frame_pb2.Reply(ref=ref, reason=reason, detail=detail)]))


def kept(message: message_pb2.Message) -> bytes:
    """Of a message in the log, what its sender does not know yet, as `Written.kept` has it of a new one."""
    told = message_pb2.Message(
        id=message.id,
        dialog_id=message.dialog_id,
        seq=message.seq,
        client_message_id=message.client_message_id,
        created_at=message.created_at,
    )
    return told.SerializeToString()


def written(ref: str, told: bytes) -> Piece:
    """The reply to a frame that sent a message, with what was kept of it."""
    return Piece(part(_REPLIES, part(_REF, ref.encode()) + part(_MESSAGE, told)))


def heartbeat() -> Piece:
    """Says that the stream is alive."""
    now = time.time_ns()
    at = Timestamp(seconds=now // 10**9, nanos=now % 10**9)
    return _piece(frame_pb2.Frame(heartbeat=frame_pb2.Heartbeat(at=at)), ("heartbeat",))


def end(reason: str, detail: str, retry_after_ms: int) -> Piece:
    """The last of a stream."""
    told = frame_pb2.End(reason=reason, detail=detail, retry_after_ms=retry_after_ms)
    return _piece(frame_pb2.Frame(end=told))


LIVE = _piece(frame_pb2.Frame(live=True))
