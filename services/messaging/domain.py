"""Values and rules of messaging: ids, kinds, roles, who may do what. No I/O, no proto."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from functools import lru_cache
from uuid import UUID

# Where everybody sees how far the others have read.
SMALL = 100
# Type of the messages that tell of money.
PAYMENT = "payment"
_SEQ_BYTES = 8
# Currencies whose amounts are whole, by ISO 4217; the others have hundredths.
_WHOLE = ("VND",)


class Kind(IntEnum):
    """Kinds of dialogs, as they are stored."""

    DIRECT = 1
    GROUP = 2
    CHANNEL = 3


class Role(IntEnum):
    """Roles of members, as they are stored: more rights, higher number."""

    MEMBER = 1
    ADMIN = 2
    OWNER = 3

    @property
    def leads(self) -> bool:
        """Whether it is for who leads a dialog."""
        return self >= Role.ADMIN


def name_of(value: Kind | Role) -> str:
    """What the contract calls it."""
    return value.name.lower()


@dataclass(frozen=True, slots=True)
class MessageId:
    """Where a message is. As a text: base64url of the dialog's 16 bytes and the number's 8."""

    dialog_id: UUID
    seq: int

    def __str__(self) -> str:
        return message_id(self.dialog_id, self.seq)

    @classmethod
    def read(cls, text: str) -> MessageId | None:
        """The id of a text; None when it is none. There is one text for each id."""
        try:
            raw = base64.b64decode(text, altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            return None
        if len(raw) != 16 + _SEQ_BYTES:
            return None
        seq = int.from_bytes(raw[16:], "big")
        return cls(UUID(bytes=raw[:16]), seq) if 0 < seq < 1 << 63 else None


def message_id(dialog_id: UUID, seq: int) -> str:
    """The text of a message's id: 32 characters."""
    return base64.urlsafe_b64encode(dialog_id.bytes + seq.to_bytes(_SEQ_BYTES, "big")).decode()


def direct_key(one: UUID, other: UUID) -> bytes:
    """What there is once for two people, whoever asks."""
    return b"".join(sorted((one.bytes, other.bytes)))


# Not frozen, though nobody changes one: that takes as long as all else that makes it.
@dataclass(slots=True)
class Draft:
    """A message that is to be written. The number of another one is 0 where that is of another dialog."""

    dialog_id: UUID
    sender_id: UUID
    client_message_id: str
    text: str = field(repr=False)
    # Keyed hash of what was asked for.
    request_hash: bytes
    type: str = "text"
    # A JSON object; and the contract's Content in bytes, where who writes it knows it already.
    attributes: str | None = field(default=None, repr=False)
    content: bytes | None = field(default=None, repr=False)
    reply_to: int | None = None
    thread: int | None = None
    file_ids: tuple[UUID, ...] = ()
    mentions: tuple[UUID, ...] = ()

    @property
    def is_notice(self) -> bool:
        """Whether a service writes it in somebody's name."""
        return self.type != "text"

    @property
    def size(self) -> int:
        """About how many bytes it takes, at most."""
        return 512 + 4 * len(self.text) + 16 * (len(self.file_ids) + len(self.mentions))


# Not frozen, as Draft.
@dataclass(slots=True)
class Paid:
    """Money that went from one person to another. `amount` in minor units, 1 or more."""

    transaction_id: UUID
    kind: str
    sender_id: UUID
    recipient_id: UUID
    amount: int
    currency: str

    def __post_init__(self) -> None:
        if self.sender_id == self.recipient_id or self.amount < 1:
            raise ValueError("a payment is of something, from one person to another")

    @property
    def text(self) -> str:
        """What an app shows that does not know of payments."""
        whole, hundredths = divmod(self.amount, 100)
        shown = f"{self.amount}" if self.currency in _WHOLE else f"{whole}.{hundredths:02}"
        return f"{shown} {self.currency}"

    @property
    def attributes(self) -> str:
        """What is kept of it with its message: a JSON object."""
        rest = _of_kind(self.kind, self.currency)
        return f'{{"transaction_id": "{self.transaction_id}", "amount": "{self.amount}", {rest}'


@lru_cache(64)
def _of_kind(kind: str, currency: str) -> str:
    """The end of the attributes, which many payments have in common."""
    return json.dumps({"kind": kind, "currency": currency})[1:]


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in a dialog."""

    user_id: UUID
    role: Role
    joined_at: datetime
    read_seq: int


@dataclass(frozen=True, slots=True)
class Reaction:
    """One emoji under a message. `mine` for who looks."""

    emoji: str
    count: int
    mine: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A message as it is now."""

    dialog_id: UUID
    seq: int
    sender_id: UUID
    client_message_id: str
    created_at: datetime
    type: str = "text"
    text: str = field(default="", repr=False)
    attributes: Mapping[str, str] | None = field(default=None, repr=False)
    reply_to: int | None = None
    thread_seq: int | None = None
    reply_count: int = 0
    file_ids: Sequence[UUID] | None = None
    mentions: Sequence[UUID] | None = None
    edited_at: datetime | None = None
    deleted_at: datetime | None = None
    reactions: Sequence[Reaction] = ()


@dataclass(frozen=True, slots=True)
class Edit:
    """What a message said before it was changed."""

    text: str = field(repr=False)
    replaced_at: datetime


@dataclass(frozen=True, slots=True)
class Dialog:
    """A dialog as one of its members sees it."""

    id: UUID
    kind: Kind
    title: str
    description: str
    workspace_id: UUID | None
    is_private: bool
    created_by: UUID
    created_at: datetime
    active_at: datetime
    members: Sequence[Member]
    member_count: int
    last_message: Message | None
    seq: int
    first_seq: int
    read_seq: int
    unread: int
    mentioned: int
    muted: bool
    role: Role


@dataclass(frozen=True, slots=True)
class Read:
    """How far somebody has read in a dialog, and what is left."""

    dialog_id: UUID
    read_seq: int
    unread: int


@dataclass(frozen=True, slots=True)
class NewReport:
    """What somebody reports. `text` is what the message said then."""

    id: UUID
    dialog_id: UUID
    seq: int
    sender_id: UUID
    reporter_id: UUID
    category: str
    comment: str = field(repr=False)
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What somebody reported, and when."""

    of: NewReport
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Block:
    """Somebody who is blocked."""

    user_id: UUID
    created_at: datetime


def may_remove(actor: Role, target: Role) -> bool:
    """Whether one with a role may remove another: the owner anybody, admins only members."""
    return actor.leads and actor > target


def may_add(actor: Role, role: Role) -> bool:
    """Whether one with a role may add somebody with another: to make admins is for the owner."""
    return actor.leads and actor > role
