"""Personal data: sealed with each person's own key, found by keyed hashes."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from services.identity.domain import Account, AccountStatus, Identifier, IdentifierKind
from services.identity.repository import StoredAccount, StoredIdentifier
from services.mesh.vault import Vault, keyed_hash, new_key, seal, unseal


@dataclass(frozen=True, slots=True)
class Person:
    """A person's data key, open, while their data is written."""

    account_id: UUID
    wrapped: bytes
    data_key: bytes
    key_id: int
    lookup_key: bytes

    def seal(self, identifier: Identifier) -> StoredIdentifier:
        """An identifier as it is stored."""
        place = _place(self.account_id, identifier.kind)
        return StoredIdentifier(
            kind=identifier.kind,
            lookup=keyed_hash(self.lookup_key, identifier.kind, identifier.value),
            lookup_key_id=self.key_id,
            sealed=seal(self.data_key, self.key_id, identifier.value.encode(), place),
        )


class People:
    """Makes and opens what is sealed for each person."""

    def __init__(self, vault: Vault) -> None:
        self._vault = vault
        self._lookup_key = vault.derive("identifier-lookup")

    def new(self, account_id: UUID) -> Person:
        """A new person with a fresh data key."""
        data_key = new_key()
        wrapped = self._vault.wrap(data_key, _key_place(account_id))
        return Person(account_id, wrapped, data_key, self._vault.key_id, self._lookup_key)

    def lookup(self, identifier: Identifier) -> bytes:
        """The keyed hash by which an identifier is found."""
        return keyed_hash(self._lookup_key, identifier.kind, identifier.value)

    def open(self, stored: StoredAccount) -> Account:
        """The account in clear. Without the person's key, e-mail and phone stay empty: they were erased."""
        clear = dict.fromkeys(IdentifierKind, "")
        account_id: UUID = stored.row.id
        if stored.wrapped_key is not None and stored.sealed:
            data_key = self._vault.unwrap(stored.wrapped_key, _key_place(account_id))
            for kind, sealed in stored.sealed.items():
                clear[kind] = unseal(data_key, sealed, _place(account_id, kind)).decode()
        row = stored.row
        return Account(
            id=account_id,
            username=row.username,
            display_name=row.display_name,
            avatar_url=row.avatar_url,
            status=AccountStatus(row.status),
            kyc_tier=row.kyc_tier,
            roles=tuple(row.roles),
            created_at=row.created_at,
            updated_at=row.updated_at,
            email=clear[IdentifierKind.EMAIL],
            phone=clear[IdentifierKind.PHONE],
        )


def _place(account_id: UUID, kind: IdentifierKind) -> str:
    return f"identifiers.sealed:{account_id}:{kind}"


def _key_place(account_id: UUID) -> str:
    return f"person_keys.wrapped:{account_id}"
