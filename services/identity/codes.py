"""Use cases of one-time codes: send one, sign in or reset a password with it."""

from __future__ import annotations

import hmac
import struct
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.identity import repository, repository_codes
from services.identity.accounts import Accounts
from services.identity.domain import AccountStatus, Challenge, Identifier, Purpose
from services.identity.errors import (
    AccountSuspended,
    CodesExhausted,
    CodeSpent,
    CodeWrong,
    NewPasswordRequired,
    PasswordTooCommon,
)
from services.identity.passwords import Passwords, is_common
from services.identity.people import People
from services.identity.sessions import Sessions, SignedIn
from services.mesh.database import Database
from services.mesh.errors import SampanError
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.vault import Vault, keyed_hash, seal, unseal

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class Sender(Protocol):
    """Gets a code to a person. Sending the same `message_id` again sends once. Raises Unavailable."""

    async def send_code(
        self, message_id: UUID, to: Identifier, purpose: Purpose, code: str, minutes: int
    ) -> None:
        """Sends a code."""

    async def say_no_account(self, message_id: UUID, to: Identifier) -> None:
        """Tells that somebody wanted to reset a password which is not there."""


@dataclass(frozen=True, slots=True)
class Sent:
    """A challenge that was sent."""

    id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class _Sending:
    """What is kept of a sent code to send it again. It `works` unless it is for nobody's password."""

    id: UUID
    expires_at: datetime
    works: bool

    def written(self) -> bytes:
        """25 bytes: id, microseconds since the epoch, whether it works."""
        return struct.pack(">16sq?", self.id.bytes, (self.expires_at - _EPOCH) // _MICROSECOND, self.works)

    @classmethod
    def read(cls, kept: bytes) -> _Sending:
        """The reverse of `written`."""
        raw, microseconds, works = struct.unpack(">16sq?", kept)
        return cls(UUID(bytes=raw), _EPOCH + microseconds * _MICROSECOND, works)


@dataclass(frozen=True, slots=True)
class CodeLimits:
    """How long a code works, how often it may be tried, how many go to one identifier in 24 h."""

    life: timedelta
    tries: int
    per_day: int


class Codes:
    """One-time codes."""

    def __init__(
        self,
        database: Database,
        vault: Vault,
        people: People,
        accounts: Accounts,
        passwords: Passwords,
        sessions: Sessions,
        idempotency: Idempotency,
        sender: Sender,
        limits: CodeLimits,
        proven: Callable[[], None],
    ) -> None:
        # Called when somebody has proven who they are, which may have raised their tier.
        self._proven = proven
        self._database = database
        self._key_id = vault.key_id
        self._sealing = vault.derive("challenges")
        self._mac_key = vault.derive("codes")
        self._code_key = vault.derive("code-digits")
        self._people = people
        self._accounts = accounts
        self._passwords = passwords
        self._sessions = sessions
        self._idempotency = idempotency
        self._sender = sender
        self._limits = limits

    async def send(self, to: Identifier, purpose: Purpose, key: Key | None = None) -> Sent:
        """Sends a code. Raises CodesExhausted or Unavailable.

        Nothing here depends on who exists but the text of the message: whoever cannot read it learns nothing.
        A repeated request sends the same message once more, under the same id, in case the first got lost.
        """
        async with self._database.transaction("send_otp") as connection:
            known = await self._idempotency.claim(connection, key)
            sending = (
                _Sending.read(known) if known is not None else await self._begin(connection, to, purpose)
            )
            if known is None:
                await self._idempotency.keep(connection, key, sending.written())
        if sending.expires_at > self._sessions.now:
            await self._deliver(to, purpose, sending)
        return Sent(sending.id, sending.expires_at)

    async def _begin(self, connection: AsyncConnection, to: Identifier, purpose: Purpose) -> _Sending:
        challenge = self._challenge(to, purpose)
        expires_at = self._sessions.now + self._limits.life
        await repository_codes.lock_identifier(connection, challenge.lookup)
        await self._check_day(connection, challenge.lookup)
        owner = await repository.owner_of(connection, to.kind, challenge.lookup)
        await repository_codes.insert_challenge(connection, challenge, expires_at)
        return _Sending(challenge.id, expires_at, works=purpose is Purpose.LOGIN or owner is not None)

    async def _deliver(self, to: Identifier, purpose: Purpose, sending: _Sending) -> None:
        if sending.works:
            minutes = int(self._limits.life.total_seconds() // 60)
            await self._sender.send_code(sending.id, to, purpose, self._code(sending.id), minutes)
        else:
            await self._sender.say_no_account(sending.id, to)

    async def verify(
        self, challenge_id: UUID, code: str, new_password: str, device: str, key: Key | None = None
    ) -> SignedIn:
        """Signs in with a code.

        Raises CodeSpent, CodeWrong, NewPasswordRequired, PasswordTooCommon or AccountSuspended. A wrong code
        costs a try, whatever else happens.
        """
        hashed = await self._new_hash(challenge_id, new_password)
        outcome: SignedIn | SampanError
        async with self._database.transaction("verify_otp") as connection:
            answered = await self._sessions.answered(connection, key)
            if answered is not None:
                return answered
            challenge = await repository_codes.take_try(connection, challenge_id, self._limits.tries)
            outcome = await self._verify(connection, challenge, code, hashed, device, key)
            if isinstance(outcome, SampanError):
                await self._idempotency.forget(connection, key)
        # Raised only now: the try must be committed.
        if isinstance(outcome, SampanError):
            raise outcome
        self._proven()
        return outcome

    async def _new_hash(self, challenge_id: UUID, new_password: str) -> str | None:
        """The hash of the new password, when the code is for one. Made before any lock is taken."""
        async with self._database.transaction() as connection:
            purpose = await repository_codes.purpose_of(connection, challenge_id)
        if purpose is not Purpose.RESET:
            return None
        if not new_password:
            raise NewPasswordRequired
        if is_common(new_password):
            raise PasswordTooCommon("new_password")
        return await self._passwords.hash(new_password)

    async def _verify(
        self,
        connection: AsyncConnection,
        challenge: Challenge | None,
        code: str,
        hashed: str | None,
        device: str,
        key: Key | None,
    ) -> SignedIn | SampanError:
        if challenge is None or challenge.sealed is None:
            return CodeSpent()
        if not hmac.compare_digest(challenge.code_mac, self._mac(challenge.id, code)):
            return CodeWrong()
        await repository_codes.spend(connection, challenge.id)
        await repository_codes.lock_identifier(connection, challenge.lookup)
        account_id = await self._owner(connection, challenge)
        if account_id is None:
            # Only who guesses gets here: no code was sent for an account that is not there.
            return CodeWrong()
        stored = await repository.account_by_id(connection, account_id)
        if stored is None or stored.row.status == AccountStatus.SUSPENDED:
            return AccountSuspended()
        if hashed is not None:
            await repository.set_password_hash(connection, account_id, hashed)
            await self._sessions.end_all(connection, account_id)
            stored = await repository.account_by_id(connection, account_id) or stored
        session = await self._sessions.begin(connection, account_id, device, key)
        return self._sessions.signed_in(stored, session)

    async def _owner(self, connection: AsyncConnection, challenge: Challenge) -> UUID | None:
        """Whose the identifier is from now on; None for a reset of nobody's password."""
        kind, lookup = challenge.kind, challenge.lookup
        account_id = await repository.owner_of(connection, kind, lookup)
        if account_id is None:
            if challenge.purpose is Purpose.RESET:
                return None
            return await self._accounts.make_proven(connection, self._identifier(challenge))
        if not await repository.is_proven(connection, account_id, kind):
            await repository.prove(connection, account_id, kind, lookup, self._sessions.now)
            await self._sessions.end_all(connection, account_id)
        await repository.drop_other_claims(connection, account_id, kind, lookup)
        return account_id

    async def _check_day(self, connection: AsyncConnection, lookup: bytes) -> None:
        sent, first = await repository_codes.sent_today(connection, lookup)
        if sent >= self._limits.per_day and first is not None:
            raise CodesExhausted((first + _DAY - self._sessions.now).total_seconds())

    def _challenge(self, to: Identifier, purpose: Purpose) -> Challenge:
        challenge_id = uuid7()
        return Challenge(
            id=challenge_id,
            purpose=purpose,
            kind=to.kind,
            lookup=self._people.lookup(to),
            sealed=seal(self._sealing, self._key_id, to.value.encode(), _place(challenge_id)),
            code_mac=self._mac(challenge_id, self._code(challenge_id)),
        )

    def _identifier(self, challenge: Challenge) -> Identifier:
        sealed = challenge.sealed or b""
        return Identifier(challenge.kind, unseal(self._sealing, sealed, _place(challenge.id)).decode())

    def _code(self, challenge_id: UUID) -> str:
        """The code of a challenge, derived and nowhere kept, so that it can be sent again: 6 digits."""
        return f"{int.from_bytes(keyed_hash(self._code_key, challenge_id.hex)[:16], 'big') % 1_000_000:06}"

    def _mac(self, challenge_id: UUID, code: str) -> bytes:
        return keyed_hash(self._mac_key, challenge_id.hex, code)


def _place(challenge_id: UUID) -> str:
    return f"challenges.sealed:{challenge_id}"
