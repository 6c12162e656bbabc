"""Use cases of identity: register, sign in, who am I. Transactions open here."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from services.identity import repository
from services.identity.domain import (
    Account,
    AccountStatus,
    Identifier,
    IdentifierKind,
    Session,
    normal_email,
    normal_phone,
    normal_username,
)
from services.identity.errors import (
    AccountSuspended,
    InvalidCredentials,
    PasswordTooCommon,
    PhoneInvalid,
    UsernameTaken,
)
from services.identity.passwords import Passwords, is_common
from services.identity.people import People
from services.identity.repository import StoredAccount
from services.identity.tokens import TokenIssuer, Tokens
from services.mesh.clock import Clock, moment
from services.mesh.database import Database
from services.mesh.errors import TokenInvalid
from services.mesh.ids import uuid7

_SALT_BYTES = 16


@dataclass(frozen=True, slots=True)
class Registration:
    """What somebody gives to register; empty strings for what they left out."""

    username: str
    password: str
    email: str
    phone: str
    display_name: str


@dataclass(frozen=True, slots=True)
class SignedIn:
    """An account and the tokens of its new session."""

    account: Account
    tokens: Tokens


class IdentityService:
    """Accounts and sessions."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        people: People,
        issuer: TokenIssuer,
        *,
        refresh_seconds: int,
        claims_tried: int,
        clock: Clock,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._people = people
        self._issuer = issuer
        self._refresh_seconds = refresh_seconds
        self._claims_tried = claims_tried
        self._clock = clock

    async def register(self, given: Registration) -> SignedIn:
        """Makes an account and signs it in.

        Raises PasswordTooCommon, PhoneInvalid or UsernameTaken. E-mail and phone are not checked against
        other accounts: unproven, they reserve nothing.
        """
        if is_common(given.password):
            raise PasswordTooCommon
        found = _identifiers(given.email, given.phone)
        hashed = await self._passwords.hash(given.password)
        account_id = uuid7()
        person = self._people.new(account_id)
        async with self._database.transaction() as connection:
            made = await repository.insert_account(
                connection,
                account_id=account_id,
                username=normal_username(given.username),
                display_name=given.display_name.strip() or given.username,
                password_hash=hashed,
            )
            if not made:
                raise UsernameTaken
            await repository.insert_person_key(connection, account_id, person.wrapped)
            await repository.insert_identifiers(connection, account_id, [person.seal(one) for one in found])
            session = self._new_session(account_id)
            await repository.insert_session(connection, session)
            stored = await repository.account_by_id(connection, account_id)
        if stored is None:
            raise InvalidCredentials
        return self._signed_in(stored, session)

    async def login_by_username(self, username: str, password: str) -> SignedIn:
        """Signs in. Raises InvalidCredentials or AccountSuspended."""
        async with self._database.transaction() as connection:
            stored = await repository.account_by_username(connection, normal_username(username))
        return await self._login([stored] if stored else [], password)

    async def login_by_identifier(self, identifier: Identifier, password: str) -> SignedIn:
        """Signs in by e-mail or phone. Raises InvalidCredentials or AccountSuspended.

        Whoever proved the identifier comes first; several may claim it unproven.
        """
        lookup = self._people.lookup(identifier)
        async with self._database.transaction() as connection:
            found = await repository.accounts_by_identifier(
                connection, identifier.kind, lookup, self._claims_tried
            )
        return await self._login(found, password)

    async def me(self, account_id: UUID) -> Account:
        """One's own account. Raises TokenInvalid when it is no more."""
        async with self._database.transaction() as connection:
            stored = await repository.account_by_id(connection, account_id)
        if stored is None:
            raise TokenInvalid
        return self._people.open(stored)

    async def _login(self, found: list[StoredAccount], password: str) -> SignedIn:
        stored = await self._fitting(found, password)
        if stored is None:
            raise InvalidCredentials
        if stored.row.status == AccountStatus.SUSPENDED:
            raise AccountSuspended
        await self._upgrade_hash(stored, password)
        session = self._new_session(stored.row.id)
        async with self._database.transaction() as connection:
            await repository.insert_session(connection, session)
        return self._signed_in(stored, session)

    async def _fitting(self, found: list[StoredAccount], password: str) -> StoredAccount | None:
        """The account that the password fits; as slow for nobody as for one."""
        if not found:
            await self._passwords.verify(None, password)
        for stored in found:
            if await self._passwords.verify(stored.password_hash, password):
                return stored
        return None

    async def _upgrade_hash(self, stored: StoredAccount, password: str) -> None:
        if stored.password_hash is None or not self._passwords.is_outdated(stored.password_hash):
            return
        hashed = await self._passwords.hash(password)
        async with self._database.transaction() as connection:
            await repository.set_password_hash(connection, stored.row.id, hashed)

    def _new_session(self, account_id: UUID) -> Session:
        now = moment(self._clock())
        return Session(
            id=uuid7(),
            account_id=account_id,
            generation=1,
            salt=os.urandom(_SALT_BYTES),
            rotated_at=now,
            refresh_expires_at=now + timedelta(seconds=self._refresh_seconds),
        )

    def _signed_in(self, stored: StoredAccount, session: Session) -> SignedIn:
        account = self._people.open(stored)
        return SignedIn(account, self._issuer.issue(account, session))


def _identifiers(email: str, phone: str) -> list[Identifier]:
    found = []
    if email:
        found.append(Identifier(IdentifierKind.EMAIL, normal_email(email)))
    if phone:
        number = normal_phone(phone)
        if number is None:
            raise PhoneInvalid
        found.append(Identifier(IdentifierKind.PHONE, number))
    return found
