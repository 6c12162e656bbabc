"""Use cases of accounts: register, sign in, who am I, new password, roles. Transactions open here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from services.identity import repository
from services.identity.accounts import Accounts, made_up_username
from services.identity.domain import Account, AccountStatus, Identifier, normal_username
from services.identity.errors import AccountSuspended, InvalidCredentials, PasswordTooCommon
from services.identity.passwords import Passwords, is_common
from services.identity.people import People
from services.identity.repository import StoredAccount
from services.identity.sessions import Sessions, SignedIn
from services.mesh.database import Database
from services.mesh.errors import NotFound, TokenInvalid
from services.mesh.group_read import GroupRead
from services.mesh.idempotency import Idempotency, Key


@dataclass(frozen=True, slots=True)
class Registration:
    """What somebody gives to register; a user name is made up when it is empty."""

    password: str
    username: str = ""
    identifiers: tuple[Identifier, ...] = ()
    display_name: str = ""
    device: str = ""
    key: Key | None = None


class IdentityService:
    """Accounts and passwords."""

    def __init__(
        self,
        database: Database,
        passwords: Passwords,
        people: People,
        accounts: Accounts,
        sessions: Sessions,
        idempotency: Idempotency,
        *,
        claims_tried: int,
    ) -> None:
        self._database = database
        self._passwords = passwords
        self._people = people
        self._accounts = accounts
        self._sessions = sessions
        self._idempotency = idempotency
        self._claims_tried = claims_tried
        self._by_id = GroupRead(self._read)

    async def register(self, given: Registration) -> SignedIn:
        """Makes an account and signs it in. Raises PasswordTooCommon or UsernameTaken.

        E-mail and phone are not checked against other accounts: unproven, they reserve nothing.
        """
        if is_common(given.password):
            raise PasswordTooCommon
        hashed = await self._passwords.hash(given.password)
        username = normal_username(given.username) or made_up_username()
        async with self._database.transaction("register") as connection:
            answered = await self._sessions.answered(connection, given.key)
            if answered is not None:
                return answered
            account_id = await self._accounts.make(
                connection,
                username=username,
                display_name=given.display_name.strip() or username,
                password_hash=hashed,
                identifiers=list(given.identifiers),
            )
            session = await self._sessions.begin(connection, account_id, given.device, given.key)
            stored = await repository.account_by_id(connection, account_id)
        if stored is None:
            raise InvalidCredentials
        return self._sessions.signed_in(stored, session)

    async def login_by_username(
        self, username: str, password: str, device: str, key: Key | None = None
    ) -> SignedIn:
        """Signs in. Raises InvalidCredentials or AccountSuspended."""
        async with self._database.transaction() as connection:
            stored = await repository.account_by_username(connection, normal_username(username))
        return await self._login([stored] if stored else [], password, device, key)

    async def login_by_identifier(
        self, identifier: Identifier, password: str, device: str, key: Key | None = None
    ) -> SignedIn:
        """Signs in by e-mail or phone. Raises InvalidCredentials or AccountSuspended.

        Whoever proved the identifier comes first; several may claim it unproven.
        """
        lookup = self._people.lookup(identifier)
        async with self._database.transaction() as connection:
            found = await repository.accounts_by_identifier(
                connection, identifier.kind, lookup, self._claims_tried
            )
        return await self._login(found, password, device, key)

    async def existing(self, ids: Sequence[UUID]) -> list[UUID]:
        """Those ids that have an account."""
        async with self._database.reading() as connection:
            return await repository.existing_accounts(connection, ids)

    async def me(self, account_id: UUID) -> Account:
        """One's own account. Raises TokenInvalid when it is no more."""
        stored = await self._by_id.get(account_id)
        if stored is None:
            raise TokenInvalid
        return self._people.open(stored)

    async def change_password(
        self, account_id: UUID, session_id: UUID, old: str, new: str, key: Key | None = None
    ) -> None:
        """Replaces the password and ends all other sessions. Raises InvalidCredentials, PasswordTooCommon."""
        if is_common(new):
            raise PasswordTooCommon("new_password")
        async with self._database.transaction() as connection:
            # In this order: what is read of the account is then not newer than what is known of the request.
            stored = await repository.account_by_id(connection, account_id)
            known = await self._idempotency.known(connection, key)
        if known is not None:
            return
        if not await self._passwords.verify(stored.password_hash if stored else None, old):
            raise InvalidCredentials
        hashed = await self._passwords.hash(new)
        async with self._database.transaction("change_password") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            await repository.set_password_hash(connection, account_id, hashed)
            await self._sessions.end_all(connection, account_id, but=session_id)

    async def set_role(
        self, user: str, role: str, *, granted: bool, key: Key | None = None
    ) -> tuple[UUID, tuple[str, ...]]:
        """Gives or takes a role by user name or id, and ends the person's sessions. Raises NotFound.

        A repeated request changes nothing and is answered with the roles as they are now.
        """
        async with self._database.transaction("set_role") as connection:
            repeated = await self._idempotency.claim(connection, key) is not None
            account_id = await repository.find_account(connection, user)
            if account_id is None:
                raise NotFound("there is no such person: give the user name or the id")
            if repeated:
                return account_id, await repository.roles_of(connection, account_id)
            roles = await repository.set_role(connection, account_id, role, granted=granted)
            await self._sessions.end_all(connection, account_id)
        return account_id, roles

    async def _read(self, ids: Sequence[UUID]) -> dict[UUID, StoredAccount]:
        async with self._database.reading() as connection:
            return await repository.accounts_by_ids(connection, ids)

    async def _login(
        self, found: list[StoredAccount], password: str, device: str, key: Key | None
    ) -> SignedIn:
        stored = await self._fitting(found, password)
        if stored is None:
            raise InvalidCredentials
        if stored.row.status == AccountStatus.SUSPENDED:
            raise AccountSuspended
        await self._upgrade_hash(stored, password)
        async with self._database.transaction("login") as connection:
            answered = await self._sessions.answered(connection, key)
            if answered is not None:
                return answered
            session = await self._sessions.begin(connection, stored.row.id, device, key)
        return self._sessions.signed_in(stored, session)

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
            await repository.upgrade_password_hash(connection, stored.row.id, stored.password_hash, hashed)
