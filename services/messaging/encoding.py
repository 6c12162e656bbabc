"""A message that was just written, in the bytes of the contract."""

from __future__ import annotations

import json
from binascii import b2a_base64
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple
from uuid import UUID

from sampan.messaging.v1 import message_pb2
from services.mesh.encoding import part, timestamp, varint
from services.messaging import events
from services.messaging.domain import Draft, Paid


class Written(NamedTuple):
    """One message three times: the Event that tells of it, the Message, and what its sender does not know."""

    event: bytes
    message: bytes
    kept: bytes


def written(draft: Draft, seq: int, stamp: int, thread: int | None, mentions: Iterable[UUID]) -> Written:
    """The message of a draft that has its number. `stamp` in microseconds since the epoch."""
    dialog, sender = str(draft.dialog_id).encode(), str(draft.sender_id).encode()
    number, (created, at) = varint(seq), _stamped(stamp)
    key = part(b"\x3a", draft.client_message_id.encode())
    # Ids of messages have 32 characters, all others 36.
    head = b"".join((b"\x0a\x20", _message_id(draft.dialog_id, seq), b"\x12\x24", dialog, b"\x18", number))
    body = [
        head,
        b"\x22\x24",
        sender,
        _typed(draft.type),
        part(b"\x32", _content(draft)),
        key,
    ]
    if draft.reply_to is not None:
        body += (b"\x42\x20", _message_id(draft.dialog_id, draft.reply_to))
    if thread is not None:
        body += (b"\x4a\x20", _message_id(draft.dialog_id, thread))
    for one in draft.file_ids:
        body += (b"\x5a\x24", str(one).encode())
    for one in mentions:
        body += (b"\x62\x24", str(one).encode())
    body.append(created)
    message = b"".join(body)
    event = (
        b"\x0a\x24",
        dialog,
        b"\x10",
        number,
        b"\x1a\x24",
        sender,
        at,
        part(b"\x2a", message),
    )
    return Written(b"".join(event), message, b"".join((head, key, created)))


# What is written together has few stamps, and there are few types.
@lru_cache(256)
def _stamped(stamp: int) -> tuple[bytes, bytes]:
    """When it was written, as a Message has it and as an Event does."""
    at = timestamp(stamp)
    return part(b"\x82\x01", at), part(b"\x22", at)


@lru_cache(256)
def _typed(kind: str) -> bytes:
    return part(b"\x2a", kind.encode())


def payment(paid: Paid) -> bytes:
    """The content of the message that tells of a payment."""
    told = (
        b"\x0a\x24",
        str(paid.transaction_id).encode(),
        part(b"\x12", paid.kind.encode()),
        b"\x18" + varint(paid.amount),
        part(b"\x22", paid.currency.encode()),
    )
    return part(b"\x0a", paid.text.encode()) + part(b"\x1a", b"".join(told))


def _content(draft: Draft) -> bytes:
    if draft.content is not None:
        return draft.content
    if draft.attributes is None:
        return part(b"\x0a", draft.text.encode()) if draft.text else b""
    content = message_pb2.Content(text=draft.text)
    events.with_attributes(content, draft.type, json.loads(draft.attributes))
    return content.SerializeToString(deterministic=True)


_URLSAFE = bytes.maketrans(b"+/", b"-_")


def _message_id(dialog_id: UUID, seq: int) -> bytes:
    # As base64.urlsafe_b64encode does it, in half the time.
    return b2a_base64(dialog_id.bytes + seq.to_bytes(8, "big"), newline=False).translate(_URLSAFE)
