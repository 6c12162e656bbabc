"""All SQL of profile."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import Row, delete, func, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.profile.models import person_keys, profiles

# The columns that hold sealed values.
BANK_COLUMNS = ("bank_account_name", "bank_account_holder", "bank_account_number")


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """A profile as it lies in the tables: bank details sealed, the person's key wrapped."""

    row: Row[Any]
    wrapped_key: bytes | None


@dataclass(frozen=True, slots=True)
class NewProfile:
    """A profile as it is written. `bank` by column, sealed."""

    id: UUID
    user_id: UUID
    display_name: str
    bio: str
    avatar_url: str
    bank: Mapping[str, bytes | None]
    request_id: UUID | None
    request_hash: bytes | None


async def insert_profile(connection: AsyncConnection, new: NewProfile) -> bool:
    """Makes a profile. False when the person has one, also one that was made at the same time."""
    done = await connection.execute(
        upsert(profiles)
        .values(
            id=new.id,
            user_id=new.user_id,
            display_name=new.display_name,
            bio=new.bio,
            avatar_url=new.avatar_url,
            request_id=new.request_id,
            request_hash=new.request_hash,
            **new.bank,
        )
        .on_conflict_do_nothing(constraint="profiles_user_id_key")
    )
    return done.rowcount == 1


async def insert_person_key(connection: AsyncConnection, user_id: UUID, wrapped: bytes) -> None:
    """Keeps a person's data key."""
    await connection.execute(insert(person_keys).values(user_id=user_id, wrapped=wrapped))


def _profiles() -> Any:
    return select(profiles, person_keys.c.wrapped).outerjoin(
        person_keys, person_keys.c.user_id == profiles.c.user_id
    )


async def _one(connection: AsyncConnection, statement: Any) -> StoredProfile | None:
    row = (await connection.execute(statement)).one_or_none()
    return None if row is None else StoredProfile(row, row.wrapped)


async def profile_by_id(connection: AsyncConnection, profile_id: UUID) -> StoredProfile | None:
    """One profile, or None."""
    return await _one(connection, _profiles().where(profiles.c.id == profile_id))


async def profile_by_user(connection: AsyncConnection, user_id: UUID) -> StoredProfile | None:
    """A person's profile, or None."""
    return await _one(connection, _profiles().where(profiles.c.user_id == user_id))


async def lock_profile(connection: AsyncConnection, profile_id: UUID) -> StoredProfile | None:
    """One profile, that nobody else changes until the end of the transaction, or None.

    The key is read after the lock is had, since a statement that waited for a lock sees it as it was before.
    """
    locked = await connection.execute(
        select(profiles.c.id).where(profiles.c.id == profile_id).with_for_update()
    )
    return None if locked.one_or_none() is None else await profile_by_id(connection, profile_id)


async def profiles_before(
    connection: AsyncConnection, before: UUID | None, limit: int
) -> list[StoredProfile]:
    """Profiles without their keys, newest first, older than the one with the id `before`."""
    statement = select(profiles).order_by(profiles.c.id.desc()).limit(limit)
    if before is not None:
        statement = statement.where(profiles.c.id < before)
    return [StoredProfile(row, None) for row in await connection.execute(statement)]


async def count_profiles(connection: AsyncConnection) -> int:
    """How many there are."""
    return (await connection.execute(select(func.count()).select_from(profiles))).scalar_one()


async def update_profile(
    connection: AsyncConnection, profile_id: UUID, changes: Mapping[str, str | bytes | None]
) -> None:
    """Sets columns of a profile."""
    await connection.execute(
        update(profiles).where(profiles.c.id == profile_id).values(**changes, updated_at=func.now())
    )


async def delete_profile(connection: AsyncConnection, profile_id: UUID, user_id: UUID) -> None:
    """Deletes a profile and the key of what was sealed in it."""
    await connection.execute(delete(person_keys).where(person_keys.c.user_id == user_id))
    await connection.execute(delete(profiles).where(profiles.c.id == profile_id))
