"""Use cases of presence: who is there, how one is, what one shows. Transactions open here."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Collection, Sequence
from typing import Protocol
from uuid import UUID

from services.mesh.database import Database
from services.mesh.errors import Unavailable
from services.mesh.idempotency import Idempotency, Key
from services.presence import repository
from services.presence.domain import (
    UNKNOWN,
    Changes,
    Preferences,
    Presence,
    Status,
    own,
    shown,
)
from services.presence.events import Voice
from services.presence.leases import Device, Leases
from services.presence.preferences import KnownPreferences

# How long a renewal waits for preferences, in seconds: it must be answered whatever the database does.
_PATIENCE = 0.8


class Contacts(Protocol):
    """Who knows who shares a dialog with whom."""

    async def among(self, user_id: UUID, others: Collection[UUID]) -> set[UUID]:
        """Those who share a dialog with a person and have not blocked them. Raises Unavailable."""
        ...


class PresenceService:
    """What people may know of each other. `wake` has changes told at once."""

    def __init__(
        self,
        leases: Leases,
        preferences: KnownPreferences,
        contacts: Contacts,
        wake: Callable[[], None],
    ) -> None:
        self._leases = leases
        self._preferences = preferences
        self._contacts = contacts
        self._wake = wake

    async def of(self, viewer: UUID, users: Sequence[UUID]) -> list[Presence]:
        """How people look to the viewer. Raises Unavailable when that cannot be known for sure."""
        others = set(users) - {viewer}
        preferences = await self._preferences.of({viewer, *others})
        mine = preferences[viewer]
        seen: set[UUID] = set()
        if others and not mine.invisible:
            seen = await self._contacts.among(viewer, others)
        states = await self._leases.states([user for user in set(users) if user in seen or user == viewer])

        def look(user: UUID) -> Presence:
            if user not in states:
                return Presence(user)
            state = states[user]
            return own(user, state) if user == viewer else shown(user, state, preferences[user], mine)

        return [look(user) for user in users]

    async def set_status(self, user: UUID, status: Status, device: str, key: Key | None) -> Presence:
        """Says how somebody is on a device. Raises Unavailable, RequestIdReused."""
        state = await self._leases.set_status(user, status, device, key)
        self._wake()
        return own(user, state)

    async def renew(self, process: str, devices: Sequence[Device], seconds: int) -> dict[UUID, Preferences]:
        """Devices are there for so many seconds. Raises Unavailable.

        Returns who of their people hides something; all of them when that cannot be known just now.
        """
        if await self._leases.renew(process, devices, seconds):
            self._wake()
        people = {device.user_id for device in devices}
        try:
            async with asyncio.timeout(_PATIENCE):
                preferences = await self._preferences.of(people)
        except (Unavailable, TimeoutError):
            return dict.fromkeys(people, UNKNOWN)
        return {user: one for user, one in preferences.items() if one != Preferences()}

    async def end(self, process: str, devices: Sequence[Device]) -> None:
        """Devices are gone. Raises Unavailable."""
        await self._leases.end(process, devices)
        self._wake()


class PreferencesService:
    """What people show of themselves. A change counts everywhere after `fresh` seconds."""

    def __init__(
        self,
        database: Database,
        idempotency: Idempotency,
        preferences: KnownPreferences,
        leases: Leases,
        voice: Voice,
        fresh: float,
    ) -> None:
        self._database = database
        self._idempotency = idempotency
        self._preferences = preferences
        self._leases = leases
        self._voice = voice
        self._fresh = fresh

    async def get(self, user: UUID) -> Preferences:
        """One's own. Raises Unavailable."""
        async with self._database.reading() as connection:
            found = await repository.preferences_of(connection, [user])
        return found.get(user, Preferences())

    async def update(self, user: UUID, changes: Changes, key: Key | None) -> Preferences:
        """Changes what is given. Raises Unavailable, RequestIdReused."""
        async with self._database.transaction("update_preferences") as connection:
            repeated = await self._idempotency.claim(connection, key) is not None
            if changes.given and not repeated:
                await repository.change_preferences(connection, user, changes)
            found = await repository.preferences_of(connection, [user])
        preferences = found.get(user, Preferences())
        self._preferences.learn(user, preferences)
        if changes.given and not repeated:
            await self._tell(user, preferences)
        return preferences

    async def _tell(self, user: UUID, preferences: Preferences) -> None:
        """The change is made, whoever hears of it; who does not is told at the next renewal."""
        with contextlib.suppress(Unavailable):
            await self._voice.preferences(user, preferences)
        with contextlib.suppress(Unavailable):
            # Not before all replicas know: one of them will tell it.
            await self._leases.retell(user, after=self._fresh)
