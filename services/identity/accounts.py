"""Makes accounts, in the transaction of whoever needs one."""

from __future__ import annotations

import secrets
from datetime import datetime
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from services.identity import repository
from services.identity.domain import Identifier
from services.identity.errors import UsernameTaken
from services.identity.events import Events
from services.identity.people import People
from services.mesh.clock import Clock, moment
from services.mesh.ids import uuid7

_PROVEN_TIER = 1


class Accounts:
    """The one place where an account begins."""

    def __init__(self, people: People, events: Events, clock: Clock) -> None:
        self._people = people
        self._events = events
        self._clock = clock

    async def make(
        self,
        connection: AsyncConnection,
        *,
        username: str,
        display_name: str,
        password_hash: str | None,
        identifiers: list[Identifier],
        proven_at: datetime | None = None,
    ) -> UUID:
        """Makes an account with its key and its identifiers. Raises UsernameTaken."""
        account_id = uuid7()
        made = await repository.insert_account(
            connection,
            account_id=account_id,
            username=username,
            display_name=display_name,
            password_hash=password_hash,
        )
        if not made:
            raise UsernameTaken
        person = self._people.new(account_id)
        await repository.insert_person_key(connection, account_id, person.wrapped)
        sealed = [self._people.seal(person, one) for one in identifiers]
        await repository.insert_identifiers(connection, account_id, sealed, proven_at)
        await self._events.account_created(connection, account_id, moment(self._clock()))
        return account_id

    async def make_proven(self, connection: AsyncConnection, identifier: Identifier) -> UUID:
        """Makes an account for somebody who has just proven an identifier and said nothing else."""
        username = made_up_username()
        account_id = await self.make(
            connection,
            username=username,
            display_name=username,
            password_hash=None,
            identifiers=[identifier],
            proven_at=moment(self._clock()),
        )
        await repository.set_kyc_tier(connection, account_id, _PROVEN_TIER)
        return account_id


def made_up_username() -> str:
    """A user name for who gave none: 65 bits, so that nobody has it."""
    alphabet = "abcdefghijklmnopqrstuvwxyz234567"
    return "u_" + "".join(secrets.choice(alphabet) for _ in range(13))
