"""What identity publishes. Events carry ids; whoever needs more asks for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from sampan.identity.v1 import events_pb2 as pb
from services.identity.domain import Session
from services.mesh.outbox import Event, Outbox

SESSION_CREATED = "sampan.identity.session.created"
SESSION_ENDED = "sampan.identity.session.ended"
ACCOUNT_CREATED = "sampan.identity.account.created"

# A session is made, then ended: these are its versions.
_BEGUN, _ENDED = 1, 2


class Events:
    """Writes identity's events, each in the transaction of what it tells."""

    def __init__(self, outbox: Outbox) -> None:
        self._outbox = outbox

    async def account_created(self, connection: AsyncConnection, account_id: UUID, at: datetime) -> None:
        """There is a new account."""
        made = pb.AccountCreated(account_id=str(account_id))
        made.created_at.FromDatetime(at)
        await self._outbox.add(connection, Event(ACCOUNT_CREATED, account_id, 1, made))

    async def session_created(
        self, connection: AsyncConnection, session: Session, *, first: bool, device_known: bool
    ) -> None:
        """Somebody has signed in."""
        made = pb.SessionCreated(
            session_id=str(session.id),
            account_id=str(session.account_id),
            device_known=device_known,
            first_session=first,
        )
        made.created_at.FromDatetime(session.created_at)
        await self._outbox.add(connection, Event(SESSION_CREATED, session.id, _BEGUN, made))

    async def sessions_ended(
        self, connection: AsyncConnection, account_id: UUID, ended: Sequence[UUID], at: datetime
    ) -> None:
        """Sessions of an account have ended."""
        told = []
        for session_id in ended:
            one = pb.SessionEnded(session_id=str(session_id), account_id=str(account_id))
            one.ended_at.FromDatetime(at)
            told.append(Event(SESSION_ENDED, session_id, _ENDED, one))
        await self._outbox.add(connection, *told)
