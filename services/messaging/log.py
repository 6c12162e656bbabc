"""Changing a dialog: its lock, who may, and the events that come of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import Row
from sqlalchemy.ext.asyncio import AsyncConnection

from services.messaging import events, repository
from services.messaging.domain import Role
from services.messaging.errors import DialogNotFound
from services.messaging.events import Change
from services.messaging.publishing import LiveEvent


async def locked(connection: AsyncConnection, dialog_id: UUID) -> Row[Any]:
    """A dialog that nobody else changes until the end of the transaction. Raises DialogNotFound."""
    dialog = await repository.lock(connection, dialog_id)
    if dialog is None:
        raise DialogNotFound
    return dialog


async def entered(connection: AsyncConnection, dialog_id: UUID, user_id: UUID) -> tuple[Row[Any], Role]:
    """The same for one of its members, and their role. Raises DialogNotFound, also for somebody else."""
    dialog = await locked(connection, dialog_id)
    mine = await repository.membership(connection, dialog_id, user_id)
    if mine is None:
        raise DialogNotFound
    return dialog, Role(mine.role)


async def append(
    connection: AsyncConnection, dialog_id: UUID, changes: Sequence[Change], *, members: int = 0
) -> list[LiveEvent]:
    """Writes events into the log of a locked dialog; returns what is to be told live after the commit.

    `members` is how many more there are from then on.
    """
    last, at = await repository.advance(connection, dialog_id, len(changes), members)
    numbered = list(enumerate(changes, last - len(changes) + 1))
    rows: list[dict[str, object]] = [
        {
            "dialog_id": dialog_id,
            "seq": seq,
            "actor_id": change.actor_id,
            "kind": change.kind,
            "message_seq": change.message_seq,
            "payload": events.payload(change, at),
            "at": at,
        }
        for seq, change in numbered
    ]
    await repository.insert_changes(connection, rows)
    return [LiveEvent(dialog_id, seq, events.live(change, dialog_id, seq, at)) for seq, change in numbered]
