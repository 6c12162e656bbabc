"""Use cases of sessions: begin, refresh, list, end."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.identity import repository, repository_sessions, repository_standings
from services.identity.domain import Account, AccountStatus, Session
from services.identity.errors import (
    AccountSuspended,
    RefreshTokenInvalid,
    RefreshTokenReused,
    SessionEnded,
)
from services.identity.events import Events
from services.identity.people import People
from services.identity.tokens import TokenIssuer, Tokens
from services.mesh.clock import Clock, moment
from services.mesh.database import Database
from services.mesh.errors import NotFound, SampanError
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7

_SALT_BYTES = 16
# Clocks differ and verifiers are lenient: an ended session is remembered longer than its tokens live.
_MARGIN = timedelta(seconds=120)
MAX_LISTED = 100
MAX_DEVICE = 256


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An account and the tokens of a session of it."""

    account: Account
    tokens: Tokens


class Sessions:
    """Sessions and their tokens."""

    def __init__(
        self,
        database: Database,
        people: People,
        issuer: TokenIssuer,
        idempotency: Idempotency,
        events: Events,
        *,
        refresh_life: timedelta,
        retry_window: timedelta,
        clock: Clock,
    ) -> None:
        self._database = database
        self._people = people
        self._issuer = issuer
        self._idempotency = idempotency
        self._events = events
        self._refresh_life = refresh_life
        self._retry_window = retry_window
        self._clock = clock

    @property
    def now(self) -> datetime:
        """The time."""
        return moment(self._clock())

    @property
    def revoked_until(self) -> datetime:
        """When a session that ends now needs no longer be remembered as ended."""
        return self.now + timedelta(seconds=self._issuer.access_seconds) + _MARGIN

    async def answered(self, connection: AsyncConnection, key: Key | None) -> SignedIn | None:
        """The sign-in that an equal request has made; None when this one is to make it.

        Its pair is derived again, and only as long as nobody has used it: raises SessionEnded when the
        session has ended or was refreshed, AccountSuspended, or RequestIdReused.
        """
        known = await self._idempotency.claim(connection, key)
        if known is None:
            return None
        session = await repository_sessions.session_by_id(connection, UUID(bytes=known))
        if session is None or not session.is_untouched(self.now):
            raise SessionEnded
        stored = await repository.account_by_id(connection, session.account_id)
        if stored is None or stored.row.status == AccountStatus.SUSPENDED:
            raise AccountSuspended
        return self.signed_in(stored, session)

    async def begin(
        self, connection: AsyncConnection, account_id: UUID, device: str, key: Key | None = None
    ) -> Session:
        """Makes a session, in the caller's transaction; it is what `key` is answered with from now on.

        Raises AccountSuspended. Who is suspended meanwhile waits for the commit, and ends this session, too.
        """
        if await repository_standings.lock_status(connection, account_id) is AccountStatus.SUSPENDED:
            raise AccountSuspended
        now = self.now
        session = Session(
            id=uuid7(),
            account_id=account_id,
            generation=1,
            salt=os.urandom(_SALT_BYTES),
            rotated_at=now,
            refresh_expires_at=now + self._refresh_life,
            created_at=now,
            device=device[:MAX_DEVICE],
        )
        before, device_known = await repository_sessions.add_device(connection, account_id, session.device)
        await repository_sessions.insert_session(connection, session)
        await self._idempotency.keep(connection, key, session.id.bytes)
        await self._events.session_created(connection, session, first=not before, device_known=device_known)
        return session

    def signed_in(self, stored: repository.StoredAccount, session: Session) -> SignedIn:
        """The account in clear, and the pair of its session."""
        account = self._people.open(stored)
        return SignedIn(account, self._issuer.issue(account, session))

    async def refresh(self, token: str, request_id: UUID | None) -> SignedIn:
        """Spends a refresh token.

        Raises RefreshTokenInvalid, SessionEnded, AccountSuspended; and RefreshTokenReused, after ending the
        session everywhere: whoever holds the newest token is then as unable to go on as the thief.
        """
        named = self._issuer.read(token)
        if named is None:
            raise RefreshTokenInvalid
        outcome: SignedIn | SampanError
        async with self._database.transaction("refresh") as connection:
            session = await repository_sessions.lock_session(connection, named.session_id)
            outcome = await self._refresh(connection, session, named.generation, token, request_id)
        # What was found wrong is raised only now: the end of a session must be committed.
        if isinstance(outcome, SampanError):
            raise outcome
        return outcome

    async def _refresh(
        self,
        connection: AsyncConnection,
        session: Session | None,
        generation: int,
        token: str,
        request_id: UUID | None,
    ) -> SignedIn | SampanError:
        now = self.now
        if session is None or not self._issuer.is_of(token, session) or session.refresh_expires_at <= now:
            return RefreshTokenInvalid()
        stored = await repository.account_by_id(connection, session.account_id)
        if stored is None or session.ended_at is not None:
            return SessionEnded()
        if stored.row.status == AccountStatus.SUSPENDED:
            return AccountSuspended()
        if session.repeats(generation, request_id, now, self._retry_window):
            return self.signed_in(stored, session)
        if generation != session.generation:
            await self._end(connection, session.account_id, session.id)
            return RefreshTokenReused()
        rotated = session.rotated(now, now + self._refresh_life, request_id)
        await repository_sessions.keep_rotation(connection, rotated)
        return self.signed_in(stored, rotated)

    async def list(self, account_id: UUID) -> list[Session]:
        """Open sessions of an account, newest first, at most MAX_LISTED."""
        async with self._database.transaction() as connection:
            return await repository_sessions.open_sessions(connection, account_id, MAX_LISTED)

    async def end(self, account_id: UUID, session_id: UUID, key: Key | None = None) -> None:
        """Ends one of an account's sessions. Raises NotFound when it has no such open one."""
        async with self._database.transaction("delete_session") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            if not await self._end(connection, account_id, session_id):
                raise NotFound("there is no such session")

    async def sign_out(self, account_id: UUID, session_id: UUID, key: Key | None = None) -> None:
        """Ends the session of a call, if it has not ended already."""
        async with self._database.transaction("logout") as connection:
            if await self._idempotency.claim(connection, key) is None:
                await self._end(connection, account_id, session_id)

    async def end_all(
        self, connection: AsyncConnection, account_id: UUID, *, but: UUID | None = None
    ) -> None:
        """Ends all sessions of an account but one, in the caller's transaction."""
        ended = await repository_sessions.end_sessions(connection, account_id, self.revoked_until, but=but)
        await self._events.sessions_ended(connection, account_id, ended, self.now)

    async def _end(self, connection: AsyncConnection, account_id: UUID, session_id: UUID) -> Sequence[UUID]:
        """Ends one session, if it is open, and tells so."""
        ended = await repository_sessions.end_session(connection, session_id, account_id, self.revoked_until)
        await self._events.sessions_ended(connection, account_id, ended, self.now)
        return ended
