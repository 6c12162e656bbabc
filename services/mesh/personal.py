"""Personal data: each person has a data key of their own, and destroying it erases what it sealed."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from services.mesh.vault import Vault, new_key, seal, unseal


@dataclass(frozen=True, slots=True)
class PersonKey:
    """One person's data key, open. `wrapped` is how it is kept, in the table `person_keys`."""

    person_id: UUID
    wrapped: bytes
    key_id: int
    _data_key: bytes = field(repr=False)

    def seal(self, text: str, place: str) -> bytes:
        """Encrypts a text for one place: table, column and row."""
        return seal(self._data_key, self.key_id, text.encode(), place)

    def unseal(self, sealed: bytes, place: str) -> str:
        """The text of `seal`. Raises SealBroken."""
        return unseal(self._data_key, sealed, place).decode()


class PersonKeys:
    """Makes and opens the data keys of persons, which the master key wraps."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def new(self, person_id: UUID) -> PersonKey:
        """A fresh one."""
        data_key = new_key()
        wrapped = self._vault.wrap(data_key, _place(person_id))
        return PersonKey(person_id, wrapped, self._vault.key_id, data_key)

    def find(self, person_id: UUID, wrapped: bytes | None) -> PersonKey | None:
        """That which was kept; None when it was destroyed. Raises SealBroken."""
        if wrapped is None:
            return None
        data_key = self._vault.unwrap(wrapped, _place(person_id))
        return PersonKey(person_id, wrapped, self._vault.key_id, data_key)


def _place(person_id: UUID) -> str:
    return f"person_keys.wrapped:{person_id}"
