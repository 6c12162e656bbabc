"""Dialogs and messages as a client sees them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from sampan.messaging.v1 import dialog_pb2, message_pb2


@dataclass(frozen=True, slots=True)
class Payment:
    """Money that went from who sent the message to the other one. `amount` in minor units of the currency."""

    transaction_id: str
    kind: str
    amount: int
    currency: str


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it was when it was told. `seq` orders the messages of a dialog; times are in UTC."""

    id: str
    dialog_id: str
    seq: int
    sender_id: str
    text: str
    type: str = "text"
    client_message_id: str = ""
    reply_to: str = ""
    thread_id: str = ""
    reply_count: int = 0
    file_ids: tuple[str, ...] = ()
    mentions: tuple[str, ...] = ()
    # Emoji, how many people chose it, whether oneself did.
    reactions: tuple[tuple[str, int, bool], ...] = ()
    created_at: datetime | None = None
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    payment: Payment | None = None


@dataclass(frozen=True, slots=True)
class Dialog:
    """A dialog as the caller sees it."""

    id: str
    kind: str
    title: str
    # Account and role of the first 100 members.
    members: tuple[tuple[str, str], ...]
    member_count: int
    last_seq: int
    first_seq: int
    read_seq: int
    unread_count: int
    mention_count: int
    muted: bool
    role: str
    last_message: Message | None


def moment(stamp: Timestamp) -> datetime:
    """The time of a protobuf."""
    return stamp.ToDatetime(tzinfo=UTC)


def message(raw: message_pb2.Message) -> Message:
    """Ours for the contract's."""
    return Message(
        id=raw.id,
        dialog_id=raw.dialog_id,
        seq=raw.seq,
        sender_id=raw.sender_id,
        text=raw.content.text,
        type=raw.type,
        client_message_id=raw.client_message_id,
        reply_to=raw.reply_to,
        thread_id=raw.thread_id,
        reply_count=raw.reply_count,
        file_ids=tuple(raw.file_ids),
        mentions=tuple(raw.mentions),
        reactions=tuple((one.emoji, one.count, one.mine) for one in raw.reactions),
        created_at=moment(raw.created_at) if raw.HasField("created_at") else None,
        edited_at=moment(raw.edited_at) if raw.HasField("edited_at") else None,
        deleted_at=moment(raw.deleted_at) if raw.HasField("deleted_at") else None,
        payment=_payment(raw.content.payment) if raw.content.HasField("payment") else None,
    )


def _payment(raw: message_pb2.Payment) -> Payment:
    return Payment(raw.transaction_id, raw.kind, raw.amount, raw.currency)


def dialog(raw: dialog_pb2.Dialog) -> Dialog:
    """Ours for the contract's."""
    return Dialog(
        id=raw.id,
        kind=raw.kind,
        title=raw.title,
        members=tuple((one.user_id, one.role) for one in raw.members),
        member_count=raw.member_count,
        last_seq=raw.last_seq,
        first_seq=raw.first_seq,
        read_seq=raw.read_seq,
        unread_count=raw.unread_count,
        mention_count=raw.mention_count,
        muted=raw.muted,
        role=raw.role,
        last_message=message(raw.last_message) if raw.HasField("last_message") else None,
    )
