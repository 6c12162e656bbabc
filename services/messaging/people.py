"""Use cases between people: blocks, reports, whom one knows. Transactions open here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Key
from services.mesh.ids import uuid7
from services.mesh.paging import DEFAULT_LIMIT, Page, PageTokens
from services.messaging import repository_people
from services.messaging.accounts_client import Accounts
from services.messaging.domain import Block, MessageId, NewReport, Report
from services.messaging.errors import wrong
from services.messaging.messages import seen


@dataclass(frozen=True, slots=True)
class PeopleTokens:
    """Page tokens of the lists here."""

    blocks: PageTokens
    reports: PageTokens


class PeopleService:
    """Blocks, reports and contacts."""

    def __init__(
        self, database: Database, accounts: Accounts, page_tokens: PeopleTokens, idempotency: Idempotency
    ) -> None:
        self._database = database
        self._accounts = accounts
        self._page_tokens = page_tokens
        self._idempotency = idempotency

    async def block(self, blocker: UUID, blocked: UUID, key: Key | None = None) -> Block:
        """Blocks somebody. Raises InvalidArgument for oneself, or UserNotFound.

        A repeated request does not block again who was unblocked since.
        """
        if blocker == blocked:
            raise wrong("user_id", "user_id.other", "must be somebody other than you")
        await self._accounts.require([blocked])
        async with self._database.transaction("block_user") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                return Block(blocked, datetime.fromisoformat(known.decode()))
            made = await repository_people.block(connection, blocker, blocked)
            await self._idempotency.keep(connection, key, made.created_at.isoformat().encode())
        return made

    async def unblock(self, blocker: UUID, blocked: UUID, key: Key | None = None) -> None:
        """Takes a block back; nothing happens when there is none."""
        async with self._database.transaction("unblock_user") as connection:
            if await self._idempotency.claim(connection, key) is None:
                await repository_people.unblock(connection, blocker, blocked)

    async def blocks(self, blocker: UUID, limit: int, page_token: str) -> Page[Block]:
        """Whom somebody has blocked, newest first. Raises PageTokenInvalid."""
        tokens = self._page_tokens.blocks
        position = tokens.read(page_token)
        after = position and (datetime.fromisoformat(position[0]), UUID(position[1]))
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            found = await repository_people.blocks(connection, blocker, limit + 1, after or None)
        return tokens.page(found, limit, lambda one: (one.created_at.isoformat(), str(one.user_id)))

    async def report(
        self, reporter: UUID, where: MessageId, category: str, comment: str, key: Key | None = None
    ) -> UUID:
        """Keeps a report of a message, once for each person and message. Raises MessageNotFound."""
        async with self._database.transaction("report_message") as connection:
            known = await self._idempotency.claim(connection, key)
            if known is not None:
                return UUID(bytes=known)
            message = (await seen(connection, where, reporter)).message
            made = await repository_people.report(
                connection,
                NewReport(
                    id=uuid7(),
                    dialog_id=message.dialog_id,
                    seq=message.seq,
                    sender_id=message.sender_id,
                    reporter_id=reporter,
                    category=category,
                    comment=comment,
                    text=message.text,
                ),
            )
            await self._idempotency.keep(connection, key, made.bytes)
        return made

    async def reports(self, limit: int, page_token: str) -> Page[Report]:
        """What people have reported, newest first. Raises PageTokenInvalid."""
        tokens = self._page_tokens.reports
        position = tokens.read(page_token)
        limit = limit or DEFAULT_LIMIT
        async with self._database.reading() as connection:
            found = await repository_people.reports(
                connection, limit + 1, UUID(position[0]) if position else None
            )
        return tokens.page(found, limit, lambda one: (str(one.of.id),))

    async def contacts(self, user_id: UUID, others: Sequence[UUID]) -> list[UUID]:
        """Those who share a dialog with somebody and have not blocked them."""
        async with self._database.reading() as connection:
            return await repository_people.contacts(connection, user_id, others)
