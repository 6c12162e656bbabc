"""Messages that are to be written, out of what clients send: the same through every door."""

from __future__ import annotations

import hashlib
from uuid import UUID

from sampan.messaging.v1.frame_pb2 import Send
from sampan.messaging.v1.messaging_service_pb2 import SendMessageRequest
from services.mesh.ids import uuid7
from services.messaging.domain import Draft, MessageId


class Drafts:
    """Makes drafts. `secret`, up to 64 bytes, keys the hashes by which repeats are told from reuse."""

    def __init__(self, secret: bytes) -> None:
        self._blank = hashlib.blake2b(key=secret, digest_size=16)

    def of(self, sender_id: UUID, given: SendMessageRequest | Send) -> Draft:
        """What somebody sends. Without an id of theirs it gets one."""
        key = given.client_message_id
        if not key and isinstance(given, SendMessageRequest):
            key = given.request_id
        dialog_id = UUID(given.dialog_id)
        return Draft(
            dialog_id=dialog_id,
            sender_id=sender_id,
            client_message_id=key or str(uuid7()),
            text=given.content.text,
            request_hash=self.hash(
                given.content.text,
                given.reply_to,
                given.thread_id,
                ",".join(given.file_ids),
                ",".join(given.mentions),
            ),
            reply_to=_seq(given.reply_to, dialog_id),
            thread=_seq(given.thread_id, dialog_id),
            file_ids=tuple(map(UUID, given.file_ids)),
            mentions=tuple(map(UUID, given.mentions)),
        )

    def hash(self, *parts: str) -> bytes:
        """Keyed hash of parts; texts with a NUL are refused later, so it cannot stand in one."""
        digest = self._blank.copy()
        digest.update("\0".join(parts).encode())
        return digest.digest()


def _seq(text: str, dialog_id: UUID) -> int | None:
    """Number of a message in a dialog; 0, which is none, for one that is not there."""
    if not text:
        return None
    found = MessageId.read(text)
    return found.seq if found is not None and found.dialog_id == dialog_id else 0
