"""Where a person can be reached, for services that have something to tell them."""

from __future__ import annotations

from dataclasses import dataclass, field
from uuid import UUID

from services.identity import repository, repository_sessions
from services.identity.domain import Identifier, IdentifierKind
from services.identity.people import People
from services.mesh.database import Database
from services.mesh.errors import NotFound


@dataclass(frozen=True, slots=True)
class Contact:
    """Whom to tell about a session, and of which device. No identifier: there is none."""

    identifier: Identifier | None = field(repr=False)
    device: str = field(repr=False)


class Contacts:
    """Identifiers in clear."""

    def __init__(self, database: Database, people: People) -> None:
        self._database = database
        self._people = people

    async def of_session(self, account_id: UUID, session_id: UUID) -> Contact:
        """How to reach somebody about a session of theirs. Raises NotFound.

        A proven identifier comes before a claimed one, an e-mail address before a phone number.
        """
        async with self._database.transaction() as connection:
            device = await repository_sessions.device_of(connection, account_id, session_id)
            stored = await repository.account_by_id(connection, account_id)
            proven = [
                kind for kind in IdentifierKind if await repository.is_proven(connection, account_id, kind)
            ]
        if device is None or stored is None:
            raise NotFound("there is no such session")
        account = self._people.open(stored)
        clear = {IdentifierKind.EMAIL: account.email, IdentifierKind.PHONE: account.phone}
        for kind in (*proven, *IdentifierKind):
            if clear[kind]:
                return Contact(Identifier(kind, clear[kind]), device)
        return Contact(None, device)
