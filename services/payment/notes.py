"""Texts of people beside the ledger, sealed with their key."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from uuid import UUID

from services.mesh.database import Database
from services.mesh.group_read import GroupRead
from services.mesh.personal import PersonKey, PersonKeys
from services.payment import repository


class Notes:
    """Seals texts and opens them. Look-ups of keys that come together share a query."""

    def __init__(self, database: Database, keys: PersonKeys) -> None:
        self._database = database
        self._keys = keys
        self._read: GroupRead[UUID, bytes] = GroupRead(self._wrapped)

    async def seal(self, person_id: UUID, transaction_id: UUID, text: str) -> bytes | None:
        """A text that only the person's key opens; None when they have none, and so no wallet."""
        key = await self._key(person_id)
        return key.seal(text, _place(transaction_id)) if key else None

    async def open(self, person_id: UUID | None, transaction_id: UUID, sealed: bytes | None) -> str:
        """The text; empty when there is none, or it was erased with the person's key."""
        if person_id is None or sealed is None:
            return ""
        key = await self._key(person_id)
        return key.unseal(sealed, _place(transaction_id)) if key else ""

    async def _key(self, person_id: UUID) -> PersonKey | None:
        return self._keys.find(person_id, await self._read.get(person_id))

    async def _wrapped(self, people: Sequence[UUID]) -> Mapping[UUID, bytes]:
        async with self._database.reading() as connection:
            return await repository.person_keys_of(connection, people)


def _place(transaction_id: UUID) -> str:
    return f"notes.sealed:{transaction_id}"
