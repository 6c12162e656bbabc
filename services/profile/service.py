"""Use cases of profile: make, show, list, change, delete. Transactions open here."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.mesh.database import Database
from services.mesh.errors import NotFound, PermissionDenied
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.profile import repository
from services.profile.domain import BankAccount, Changes, Profile, Viewer
from services.profile.errors import ProfileExists
from services.profile.people import People
from services.profile.repository import BANK_COLUMNS, NewProfile, StoredProfile


@dataclass(frozen=True, slots=True)
class Profiles:
    """A page of profiles, and how many there are on all pages."""

    page: Page[Profile]
    total: int


class ProfileService:
    """Profiles, one for each person."""

    def __init__(
        self, database: Database, people: People, page_tokens: PageTokens, idempotency: Idempotency
    ) -> None:
        self._database = database
        self._people = people
        self._page_tokens = page_tokens
        self._idempotency = idempotency

    async def create(self, viewer: Viewer, given: Changes, key: Key | None = None) -> Profile:
        """Makes one's own profile. Raises ProfileExists.

        A repeated request is answered with the profile that the first one made, as it is now.
        """
        person = self._people.new(viewer.user_id)
        profile_id = uuid7()
        new = NewProfile(
            id=profile_id,
            user_id=viewer.user_id,
            display_name=given.shown["display_name"],
            bio=given.shown.get("bio", ""),
            avatar_url=given.shown.get("avatar_url", ""),
            bank=self._people.seal(person, profile_id, given.bank),
        )
        async with self._database.transaction("create") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is None:
                if not await repository.insert_profile(connection, new):
                    raise ProfileExists
                await repository.insert_person_key(connection, viewer.user_id, person.wrapped)
                await self._idempotency.keep(connection, key, new.id.bytes)
            made_id = new.id if known is None else UUID(bytes=known)
            stored = await repository.profile_by_id(connection, made_id)
        return self._shown(stored, viewer)

    async def own(self, viewer: Viewer) -> Profile:
        """One's own profile. Raises NotFound."""
        return await self.of_user(viewer, viewer.user_id)

    async def by_id(self, viewer: Viewer, profile_id: UUID) -> Profile:
        """A profile as the viewer may see it. Raises NotFound."""
        async with self._database.transaction() as connection:
            stored = await repository.profile_by_id(connection, profile_id)
        return self._shown(stored, viewer)

    async def of_user(self, viewer: Viewer, user_id: UUID) -> Profile:
        """A person's profile as the viewer may see it. Raises NotFound."""
        async with self._database.transaction() as connection:
            stored = await repository.profile_by_user(connection, user_id)
        return self._shown(stored, viewer)

    async def list(self, limit: int, page_token: str) -> Profiles:
        """Public parts, newest first; `limit` 0 means the default. Raises PageTokenInvalid."""
        position = self._page_tokens.read(page_token)
        before = UUID(position[0]) if position else None
        limit = limit or DEFAULT_LIMIT
        async with self._database.transaction() as connection:
            found = await repository.profiles_before(connection, before, limit + 1)
            total = await repository.count_profiles(connection)
        shown = [_public(stored) for stored in found]
        return Profiles(self._page_tokens.page(shown, limit, lambda one: (str(one.id),)), total)

    async def update(
        self, viewer: Viewer, profile_id: UUID, changes: Changes, key: Key | None = None
    ) -> Profile:
        """Changes what is given. Raises NotFound, or PermissionDenied for somebody else's.

        A repeated request changes nothing and is answered with the profile as it is now.
        """
        async with self._database.transaction("update") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                changes = Changes()
            stored = await _changeable(connection, viewer, profile_id)
            columns = changes.shown | await self._sealed(connection, stored, changes.bank)
            if columns:
                await repository.update_profile(connection, profile_id, columns)
                changed = await repository.profile_by_id(connection, profile_id)
            else:
                changed = stored
        return self._shown(changed, viewer)

    async def delete(self, viewer: Viewer, profile_id: UUID, key: Key | None = None) -> None:
        """Deletes a profile and its key. Raises NotFound, or PermissionDenied for somebody else's."""
        async with self._database.transaction("delete") as connection:
            if await self._idempotency.claim(connection, key) is not None:
                return
            stored = await _changeable(connection, viewer, profile_id)
            await repository.delete_profile(connection, profile_id, stored.row.user_id)

    async def _sealed(
        self, connection: AsyncConnection, stored: StoredProfile, bank: dict[str, str]
    ) -> dict[str, str | bytes | None]:
        """Changes of bank details as they are stored."""
        if not bank:
            return {}
        person = self._people.find(stored)
        if person is not None:
            return {**self._people.seal(person, stored.row.id, bank)}
        # The key was destroyed: what was sealed with it stays lost, and must not be tried with the new one.
        person = self._people.new(stored.row.user_id)
        await repository.insert_person_key(connection, person.person_id, person.wrapped)
        return {**dict.fromkeys(BANK_COLUMNS), **self._people.seal(person, stored.row.id, bank)}

    def _shown(self, stored: StoredProfile | None, viewer: Viewer) -> Profile:
        if stored is None:
            raise NotFound("there is no such profile")
        bank = self._people.bank(stored) if viewer.sees_bank_of(stored.row.user_id) else None
        return _public(stored, bank)


async def _changeable(connection: AsyncConnection, viewer: Viewer, profile_id: UUID) -> StoredProfile:
    """The profile, locked. That it exists is no secret: everybody may see its public part."""
    stored = await repository.lock_profile(connection, profile_id)
    if stored is None:
        raise NotFound("there is no such profile")
    if not viewer.may_change(stored.row.user_id):
        raise PermissionDenied("this profile is somebody else's")
    return stored


def _public(stored: StoredProfile, bank: BankAccount | None = None) -> Profile:
    row = stored.row
    return Profile(
        id=row.id,
        user_id=row.user_id,
        display_name=row.display_name,
        bio=row.bio,
        avatar_url=row.avatar_url,
        created_at=row.created_at,
        updated_at=row.updated_at,
        bank=bank,
    )
