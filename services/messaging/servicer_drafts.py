"""Messages that are to be written, out of what clients send: the same through every door."""

from __future__ import annotations

import hashlib
from uuid import UUID

from sampan.messaging.v1.frame_pb2 import Send
from sampan.messaging.v1.messaging_service_pb2 import SendMessageRequest
from services.mesh import ids
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
        dialog_id = ids.read(given.dialog_id)
        text, reply_to, thread_id = given.content.text, given.reply_to, given.thread_id
        files, mentions = given.file_ids, given.mentions
        return Draft(
            dialog_id=dialog_id,
            sender_id=sender_id,
            client_message_id=key or str(ids.uuid7()),
            text=text,
            # To join what is not there costs as much as a field that is.
            request_hash=self.hash(
                text,
                reply_to,
                thread_id,
                ",".join(files) if files else "",
                ",".join(mentions) if mentions else "",
            ),
            reply_to=_seq(reply_to, dialog_id) if reply_to else None,
            thread=_seq(thread_id, dialog_id) if thread_id else None,
            file_ids=tuple(map(UUID, files)) if files else (),
            mentions=tuple(map(ids.read, mentions)) if mentions else (),
        )

    def hash(self, *parts: str) -> bytes:
        """Keyed hash of parts; texts with a NUL are refused later, so it cannot stand in one."""
        digest = self._blank.copy()
        digest.update("\0".join(parts).encode())
        return digest.digest()


def _seq(text: str, dialog_id: UUID) -> int:
    """Number of a message in a dialog; 0, which is none, for one that is not there."""
    found = MessageId.read(text)
    return found.seq if found is not None and found.dialog_id == dialog_id else 0
