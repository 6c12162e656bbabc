"""All SQL of identity."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import ARRAY, Row, Uuid, and_, bindparam, delete, func, insert, select, text, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.identity.domain import IdentifierKind, normal_username
from services.identity.models import accounts, identifiers, person_keys, signing_keys

# Advisory lock under which the first signing key is made.
_KEYS_LOCK = 0x5A4D_0001
# Advisory lock of the replica that clears up.
_HOUSEKEEPING_LOCK = 0x5A4D_0002


@dataclass(frozen=True, slots=True)
class StoredAccount:
    """An account as it lies in the tables: e-mail and phone sealed, the person's key wrapped."""

    row: Row[Any]
    wrapped_key: bytes | None
    sealed: dict[IdentifierKind, bytes]

    @property
    def password_hash(self) -> str | None:
        """The hash to verify a password against; None when there is no password."""
        found: str | None = self.row.password_hash
        return found


@dataclass(frozen=True, slots=True)
class StoredIdentifier:
    """An identifier as it is written."""

    kind: IdentifierKind
    lookup: bytes
    lookup_key_id: int
    sealed: bytes


@dataclass(frozen=True, slots=True)
class StoredKey:
    """A signing key: public in the clear, private sealed."""

    kid: str
    public: bytes
    sealed: bytes
    active_from: datetime


async def insert_account(
    connection: AsyncConnection,
    *,
    account_id: UUID,
    username: str,
    display_name: str,
    password_hash: str | None,
) -> bool:
    """Makes an account. False when the user name is taken."""
    done = await connection.execute(
        upsert(accounts)
        .values(id=account_id, username=username, display_name=display_name, password_hash=password_hash)
        .on_conflict_do_nothing(constraint="accounts_username_key")
    )
    return done.rowcount == 1


async def insert_person_key(connection: AsyncConnection, account_id: UUID, wrapped: bytes) -> None:
    """Keeps a person's data key."""
    await connection.execute(insert(person_keys).values(account_id=account_id, wrapped=wrapped))


async def insert_identifiers(
    connection: AsyncConnection,
    account_id: UUID,
    found: Sequence[StoredIdentifier],
    proven_at: datetime | None = None,
) -> None:
    """Writes e-mail and phone of an account; unproven, unless it says when they were proven."""
    if found:
        await connection.execute(
            insert(identifiers),
            [
                {
                    "account_id": account_id,
                    "kind": one.kind.value,
                    "lookup": one.lookup,
                    "lookup_key_id": one.lookup_key_id,
                    "sealed": one.sealed,
                    "proven_at": proven_at,
                }
                for one in found
            ],
        )


def _accounts() -> Any:
    """Accounts with their key, and their identifiers as one JSON-free pair of columns each."""
    email = identifiers.alias("email")
    phone = identifiers.alias("phone")
    return (
        select(accounts, person_keys.c.wrapped, email.c.sealed.label("email"), phone.c.sealed.label("phone"))
        .outerjoin(person_keys, person_keys.c.account_id == accounts.c.id)
        .outerjoin(email, and_(email.c.account_id == accounts.c.id, email.c.kind == "email"))
        .outerjoin(phone, and_(phone.c.account_id == accounts.c.id, phone.c.kind == "phone"))
    )


# Built once: putting a statement together costs more than PostgreSQL takes to answer it.
_BY_ID = _accounts().where(accounts.c.id == bindparam("account_id"))
_BY_IDS = _accounts().where(accounts.c.id == func.any(bindparam("account_ids", type_=ARRAY(Uuid))))
_BY_USERNAME = _accounts().where(accounts.c.username == bindparam("username"))


def _stored(row: Row[Any]) -> StoredAccount:
    sealed = {IdentifierKind.EMAIL: row.email, IdentifierKind.PHONE: row.phone}
    return StoredAccount(row, row.wrapped, {kind: value for kind, value in sealed.items() if value})


async def account_by_id(connection: AsyncConnection, account_id: UUID) -> StoredAccount | None:
    """One account, or None."""
    row = (await connection.execute(_BY_ID, {"account_id": account_id})).one_or_none()
    return None if row is None else _stored(row)


async def accounts_by_ids(connection: AsyncConnection, ids: Sequence[UUID]) -> dict[UUID, StoredAccount]:
    """Those of several accounts that are there."""
    rows = await connection.execute(_BY_IDS, {"account_ids": list(ids)})
    return {row.id: _stored(row) for row in rows}


async def existing_accounts(connection: AsyncConnection, ids: Sequence[UUID]) -> list[UUID]:
    """Those ids that have an account."""
    found = await connection.execute(select(accounts.c.id).where(accounts.c.id.in_(ids)))
    return [row.id for row in found]


async def account_by_username(connection: AsyncConnection, username: str) -> StoredAccount | None:
    """One account, or None."""
    row = (await connection.execute(_BY_USERNAME, {"username": username})).one_or_none()
    return None if row is None else _stored(row)


async def find_account(connection: AsyncConnection, user: str) -> UUID | None:
    """The account with that user name, in whatever case, or id; None when there is none."""
    stored = await account_by_username(connection, normal_username(user))
    if stored is None and (account_id := _uuid(user)) is not None:
        stored = await account_by_id(connection, account_id)
    return None if stored is None else stored.row.id


async def accounts_by_identifier(
    connection: AsyncConnection, kind: IdentifierKind, lookup: bytes, limit: int
) -> list[StoredAccount]:
    """Accounts that claim an e-mail or phone: the one that proved it first, then the newest claims."""
    claim = identifiers.alias("claim")
    rows = await connection.execute(
        _accounts()
        .join(claim, claim.c.account_id == accounts.c.id)
        .where(claim.c.kind == kind.value, claim.c.lookup == lookup)
        .order_by(claim.c.proven_at.is_(None), claim.c.created_at.desc())
        .limit(limit)
    )
    return [_stored(row) for row in rows]


async def owner_of(connection: AsyncConnection, kind: IdentifierKind, lookup: bytes) -> UUID | None:
    """Whose an identifier is by now: who proved it, else who claimed it first; None when nobody did."""
    owner: UUID | None = await connection.scalar(
        select(identifiers.c.account_id)
        .where(identifiers.c.kind == kind.value, identifiers.c.lookup == lookup)
        .order_by(identifiers.c.proven_at.is_(None), identifiers.c.created_at)
        .limit(1)
    )
    return owner


async def is_proven(connection: AsyncConnection, account_id: UUID, kind: IdentifierKind) -> bool:
    """Whether an account has proven its e-mail or phone."""
    proven = await connection.scalar(
        select(identifiers.c.proven_at).where(
            identifiers.c.account_id == account_id, identifiers.c.kind == kind.value
        )
    )
    return proven is not None


async def prove(
    connection: AsyncConnection, account_id: UUID, kind: IdentifierKind, lookup: bytes, now: datetime
) -> None:
    """Makes an identifier an account's own, for the first time.

    Whatever was there before the proof counts for nothing: the password and the account's other unproven
    identifiers go, since somebody else may have put them there. Sessions are the caller's to end.
    """
    await connection.execute(
        delete(identifiers).where(
            identifiers.c.account_id == account_id,
            identifiers.c.kind != kind.value,
            identifiers.c.proven_at.is_(None),
        )
    )
    await connection.execute(
        update(identifiers)
        .where(identifiers.c.account_id == account_id, identifiers.c.kind == kind.value)
        .values(proven_at=now)
    )
    await connection.execute(
        update(accounts)
        .where(accounts.c.id == account_id)
        .values(password_hash=None, kyc_tier=func.greatest(accounts.c.kyc_tier, 1), updated_at=func.now())
    )


async def drop_other_claims(
    connection: AsyncConnection, account_id: UUID, kind: IdentifierKind, lookup: bytes
) -> None:
    """Removes everybody else's unproven claim to what one account has proven."""
    await connection.execute(
        delete(identifiers).where(
            identifiers.c.kind == kind.value,
            identifiers.c.lookup == lookup,
            identifiers.c.account_id != account_id,
        )
    )


async def set_kyc_tier(connection: AsyncConnection, account_id: UUID, tier: int) -> None:
    """Sets how well we know a person."""
    await connection.execute(
        update(accounts).where(accounts.c.id == account_id).values(kyc_tier=tier, updated_at=func.now())
    )


async def set_password_hash(connection: AsyncConnection, account_id: UUID, password_hash: str) -> None:
    """Replaces a password's hash."""
    await connection.execute(
        update(accounts)
        .where(accounts.c.id == account_id)
        .values(password_hash=password_hash, updated_at=func.now())
    )


async def upgrade_password_hash(
    connection: AsyncConnection, account_id: UUID, old_hash: str, new_hash: str
) -> None:
    """Replaces the hash of the same password by a better one, unless somebody has changed the password."""
    await connection.execute(
        update(accounts)
        .where(accounts.c.id == account_id, accounts.c.password_hash == old_hash)
        .values(password_hash=new_hash)
    )


async def set_role(
    connection: AsyncConnection, account_id: UUID, role: str, *, granted: bool
) -> tuple[str, ...]:
    """Gives or takes a role; returns all that the account has then."""
    without = func.array_remove(accounts.c.roles, role)
    roles = await connection.scalar(
        update(accounts)
        .where(accounts.c.id == account_id)
        .values(roles=func.array_append(without, role) if granted else without, updated_at=func.now())
        .returning(accounts.c.roles)
    )
    return tuple(roles or ())


async def roles_of(connection: AsyncConnection, account_id: UUID) -> tuple[str, ...]:
    """All roles of an account."""
    return tuple(await connection.scalar(select(accounts.c.roles).where(accounts.c.id == account_id)) or ())


async def all_signing_keys(connection: AsyncConnection) -> list[StoredKey]:
    """All signing keys, the last to become active first."""
    rows = await connection.execute(select(signing_keys).order_by(signing_keys.c.active_from.desc()))
    return [StoredKey(row.kid, row.public, row.sealed, row.active_from) for row in rows]


async def lock_signing_keys(connection: AsyncConnection) -> None:
    """Lets one process at a time make a signing key, until the end of the transaction."""
    await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _KEYS_LOCK})


async def alone_in_housekeeping(connection: AsyncConnection) -> bool:
    """Whether no other replica clears up right now; none will until the end of the transaction."""
    found = await connection.execute(
        text("SELECT pg_try_advisory_xact_lock(:lock)"), {"lock": _HOUSEKEEPING_LOCK}
    )
    return bool(found.scalar_one())


async def insert_signing_key(connection: AsyncConnection, key: StoredKey) -> None:
    """Keeps a new signing key."""
    await connection.execute(
        insert(signing_keys).values(
            kid=key.kid, public=key.public, sealed=key.sealed, active_from=key.active_from
        )
    )


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
