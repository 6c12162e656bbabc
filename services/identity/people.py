"""Personal data: sealed with each person's own key, found by keyed hashes."""

from __future__ import annotations

from uuid import UUID

from services.identity.domain import Account, AccountStatus, Identifier, IdentifierKind
from services.identity.repository import StoredAccount, StoredIdentifier
from services.mesh.personal import PersonKey, PersonKeys
from services.mesh.vault import Vault, keyed_hash


class People:
    """Seals and opens what is known of each person."""

    def __init__(self, vault: Vault) -> None:
        self._keys = PersonKeys(vault)
        self._lookup_key = vault.derive("identifier-lookup")

    def new(self, account_id: UUID) -> PersonKey:
        """The key of a new person."""
        return self._keys.new(account_id)

    def seal(self, person: PersonKey, identifier: Identifier) -> StoredIdentifier:
        """An identifier as it is stored."""
        return StoredIdentifier(
            kind=identifier.kind,
            lookup=self.lookup(identifier),
            lookup_key_id=person.key_id,
            sealed=person.seal(identifier.value, _place(person.person_id, identifier.kind)),
        )

    def lookup(self, identifier: Identifier) -> bytes:
        """The keyed hash by which an identifier is found."""
        return keyed_hash(self._lookup_key, identifier.kind, identifier.value)

    def open(self, stored: StoredAccount) -> Account:
        """The account in clear. Without the person's key, e-mail and phone stay empty: they were erased."""
        clear = dict.fromkeys(IdentifierKind, "")
        account_id: UUID = stored.row.id
        person = self._keys.find(account_id, stored.wrapped_key) if stored.sealed else None
        if person is not None:
            for kind, sealed in stored.sealed.items():
                clear[kind] = person.unseal(sealed, _place(account_id, kind))
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
