"""Bank details: sealed with each person's own key."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from services.mesh.personal import PersonKey, PersonKeys
from services.mesh.vault import Vault
from services.profile.domain import BankAccount
from services.profile.repository import BANK_COLUMNS, StoredProfile


class People:
    """Seals and opens what is known of each person."""

    def __init__(self, vault: Vault) -> None:
        self._keys = PersonKeys(vault)

    def new(self, user_id: UUID) -> PersonKey:
        """A fresh key for a person."""
        return self._keys.new(user_id)

    def find(self, stored: StoredProfile) -> PersonKey | None:
        """The key of a profile's person; None when it was destroyed."""
        return self._keys.find(stored.row.user_id, stored.wrapped_key)

    def seal(self, person: PersonKey, profile_id: UUID, bank: Mapping[str, str]) -> dict[str, bytes | None]:
        """Bank details by column as they are stored: what is empty is null."""
        return {
            column: person.seal(value, _place(profile_id, column)) if value else None
            for column, value in bank.items()
        }

    def bank(self, stored: StoredProfile) -> BankAccount:
        """Bank details in clear. Without the person's key they are empty: they were erased."""
        person = self.find(stored)
        if person is None:
            return BankAccount()
        clear = dict.fromkeys(BANK_COLUMNS, "")
        for column in BANK_COLUMNS:
            sealed = stored.row._mapping[column]
            if sealed is not None:
                clear[column] = person.unseal(sealed, _place(stored.row.id, column))
        return BankAccount(
            name=clear["bank_account_name"],
            holder=clear["bank_account_holder"],
            number=clear["bank_account_number"],
        )


def _place(profile_id: UUID, column: str) -> str:
    return f"profiles.{column}:{profile_id}"
