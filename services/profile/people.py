"""Bank details: sealed with each person's own key."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from services.mesh.vault import Vault, new_key, seal, unseal
from services.profile.domain import BankAccount
from services.profile.repository import BANK_COLUMNS, StoredProfile


@dataclass(frozen=True, slots=True)
class Person:
    """A person's data key, open, while their bank details are written."""

    user_id: UUID
    wrapped: bytes
    data_key: bytes
    key_id: int

    def seal(self, profile_id: UUID, bank: Mapping[str, str]) -> dict[str, bytes | None]:
        """Bank details by column as they are stored: what is empty is null."""
        return {
            column: seal(self.data_key, self.key_id, value.encode(), _place(profile_id, column))
            if value
            else None
            for column, value in bank.items()
        }


class People:
    """Makes and opens what is sealed for each person."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault

    def new(self, user_id: UUID) -> Person:
        """A person with a fresh data key."""
        data_key = new_key()
        return Person(user_id, self._vault.wrap(data_key, _key_place(user_id)), data_key, self._vault.key_id)

    def find(self, stored: StoredProfile) -> Person | None:
        """The person of a profile; None when their key was destroyed."""
        if stored.wrapped_key is None:
            return None
        user_id: UUID = stored.row.user_id
        data_key = self._vault.unwrap(stored.wrapped_key, _key_place(user_id))
        return Person(user_id, stored.wrapped_key, data_key, self._vault.key_id)

    def bank(self, stored: StoredProfile) -> BankAccount:
        """Bank details in clear. Without the person's key they are empty: they were erased."""
        person = self.find(stored)
        if person is None:
            return BankAccount()
        clear = dict.fromkeys(BANK_COLUMNS, "")
        for column in BANK_COLUMNS:
            sealed = stored.row._mapping[column]
            if sealed is not None:
                clear[column] = unseal(person.data_key, sealed, _place(stored.row.id, column)).decode()
        return BankAccount(
            name=clear["bank_account_name"],
            holder=clear["bank_account_holder"],
            number=clear["bank_account_number"],
        )


def _place(profile_id: UUID, column: str) -> str:
    return f"profiles.{column}:{profile_id}"


def _key_place(user_id: UUID) -> str:
    return f"person_keys.wrapped:{user_id}"
