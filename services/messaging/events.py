"""What messaging says of itself: messages and events in the words of the contract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.messaging.v1 import frame_pb2, message_pb2
from services.messaging.domain import PAYMENT, Kind, Message, Role, message_id, name_of

# Numbers of the fields of Event.change: the kinds of `changes`.
CREATED = frame_pb2.Event.MESSAGE_CREATED_FIELD_NUMBER
EDITED = frame_pb2.Event.MESSAGE_EDITED_FIELD_NUMBER
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happens in a dialog; its number and time come with the commit.

    `kept` is what lies in the log, `shown` what is told live: they differ where a text may have to vanish.
    """

    actor_id: UUID
    kept: frame_pb2.Event
    shown: frame_pb2.Event
    message_seq: int | None = None

    @property
    def kind(self) -> int:
        """Number of its field in Event."""
        name = self.kept.WhichOneof("change")
        return self.kept.DESCRIPTOR.fields_by_name[name].number if name else 0


def _change(actor_id: UUID, message_seq: int | None = None, **what: object) -> Change:
    event = frame_pb2.Event(actor_id=str(actor_id), **what)  # type: ignore[arg-type]
    return Change(actor_id, event, event, message_seq)


def dialog_created(actor_id: UUID, kind: Kind, title: str, member_ids: Iterable[UUID]) -> Change:
    """A new dialog."""
    what = frame_pb2.DialogCreated(kind=name_of(kind), title=title, member_ids=map(str, member_ids))
    return _change(actor_id, dialog_created=what)


def dialog_updated(actor_id: UUID, title: str, description: str) -> Change:
    """What it is called now."""
    return _change(actor_id, dialog_updated=frame_pb2.DialogUpdated(title=title, description=description))


def member_added(actor_id: UUID, user_id: UUID, role: Role) -> Change:
    """Somebody is in it from now on."""
    what = frame_pb2.MemberChanged(user_id=str(user_id), role=name_of(role))
    return _change(actor_id, member_added=what)


def member_removed(actor_id: UUID, user_id: UUID) -> Change:
    """Somebody is in it no longer."""
    return _change(actor_id, member_removed=frame_pb2.MemberChanged(user_id=str(user_id)))


def member_role_changed(actor_id: UUID, user_id: UUID, role: Role) -> Change:
    """Somebody has another role."""
    what = frame_pb2.MemberChanged(user_id=str(user_id), role=name_of(role))
    return _change(actor_id, member_role_changed=what)


def message_edited(actor_id: UUID, where: tuple[UUID, int], text: str, mentions: Iterable[UUID]) -> Change:
    """A changed text. The log has only that it was changed: what it says now is read with the message."""
    mid, seq = message_id(*where), where[1]
    kept = frame_pb2.MessageEdited(message_id=mid, message_seq=seq)
    shown = frame_pb2.MessageEdited(
        message_id=mid,
        message_seq=seq,
        content=message_pb2.Content(text=text),
        mentions=[str(one) for one in mentions],
    )
    actor = str(actor_id)
    return Change(
        actor_id,
        frame_pb2.Event(actor_id=actor, message_edited=kept),
        frame_pb2.Event(actor_id=actor, message_edited=shown),
        seq,
    )


def message_deleted(actor_id: UUID, where: tuple[UUID, int]) -> Change:
    """A deleted message."""
    what = frame_pb2.MessageDeleted(message_id=message_id(*where), message_seq=where[1])
    return _change(actor_id, where[1], message_deleted=what)


def reaction(actor_id: UUID, where: tuple[UUID, int], emoji: str, *, added: bool) -> Change:
    """An emoji, put or taken away."""
    what = frame_pb2.ReactionChanged(message_id=message_id(*where), message_seq=where[1], emoji=emoji)
    return _change(actor_id, where[1], **{"reaction_added" if added else "reaction_removed": what})


def payload(change: Change, at: datetime) -> bytes:
    """A change as the log keeps it: without dialog and number."""
    change.kept.at.FromDatetime(at)
    return change.kept.SerializeToString()


def live(change: Change, dialog_id: UUID, seq: int, at: datetime) -> bytes:
    """A change as it is told live."""
    event = frame_pb2.Event()
    event.CopyFrom(change.shown)
    event.dialog_id = str(dialog_id)
    event.seq = seq
    event.at.FromDatetime(at)
    return event.SerializeToString()


def moment(at: datetime) -> Timestamp:
    """A time of the database."""
    past = at - _EPOCH
    return Timestamp(seconds=past.days * 86_400 + past.seconds, nanos=past.microseconds * 1000)


def with_attributes(content: message_pb2.Content, kind: str, attributes: Mapping[str, str] | None) -> None:
    """Says of a message of a service what its type says of itself."""
    if not attributes:
        return
    if kind != PAYMENT:
        content.attributes.update(attributes)
        return
    told = content.payment
    told.transaction_id, told.kind = attributes["transaction_id"], attributes["kind"]
    told.amount, told.currency = int(attributes["amount"]), attributes["currency"]


def message(given: Message) -> message_pb2.Message:
    """A message as it is now."""
    dialog_id = given.dialog_id
    made = message_pb2.Message(
        id=message_id(dialog_id, given.seq),
        dialog_id=str(dialog_id),
        seq=given.seq,
        sender_id=str(given.sender_id),
        type=given.type,
        content=message_pb2.Content(text=given.text),
        client_message_id=given.client_message_id,
        reply_count=given.reply_count,
        created_at=moment(given.created_at),
        file_ids=map(str, given.file_ids or ()),
        mentions=map(str, given.mentions or ()),
        reactions=[
            message_pb2.Reaction(emoji=one.emoji, count=one.count, mine=one.mine) for one in given.reactions
        ],
    )
    with_attributes(made.content, given.type, given.attributes)
    if given.reply_to is not None:
        made.reply_to = message_id(dialog_id, given.reply_to)
    if given.thread_seq is not None:
        made.thread_id = message_id(dialog_id, given.thread_seq)
    if given.edited_at is not None:
        made.edited_at.FromDatetime(given.edited_at)
    if given.deleted_at is not None:
        made.deleted_at.FromDatetime(given.deleted_at)
    return made
