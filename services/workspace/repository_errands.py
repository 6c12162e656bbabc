"""SQL of errands: what messaging was not told yet, who is telling it, and what follows when it knows.

An errand is a row that says what messaging shall know. Whoever tells it has the row's lease; a newer change
of the row has another `change_id`, and is told by whoever has the lease or takes it next.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID

from sqlalchemy import ColumnElement, Row, Select, Table, and_, delete, func, insert, select, true, update
from sqlalchemy.ext.asyncio import AsyncConnection

from services.workspace.domain import ChannelState, MemberState
from services.workspace.models import channel_members, channels, removals


@dataclass(frozen=True, slots=True)
class Errand:
    """Where an errand stands: its table, and its key by column."""

    table: Table
    key: tuple[tuple[str, UUID], ...]

    def row(self) -> ColumnElement[bool]:
        """Where its row is."""
        return and_(*(self.table.c[column] == value for column, value in self.key))

    def untold(self) -> ColumnElement[bool]:
        """Where it waits."""
        return and_(self.row(), _untold(self.table))


def of_channel(channel_id: UUID) -> Errand:
    """To make, change or close a channel."""
    return Errand(channels, (("id", channel_id),))


def of_member(channel_id: UUID, user_id: UUID) -> Errand:
    """To put somebody into a channel, or to take them out."""
    return Errand(channel_members, (("channel_id", channel_id), ("user_id", user_id)))


def of_removal(workspace_id: UUID, user_id: UUID) -> Errand:
    """To take somebody out of all channels of a workspace."""
    return Errand(removals, (("workspace_id", workspace_id), ("user_id", user_id)))


def _untold(table: Table) -> ColumnElement[bool]:
    return ~table.c.told if "told" in table.c else true()


async def add_removal(
    connection: AsyncConnection, workspace_id: UUID, user_id: UUID, *, change_id: UUID, actor_id: UUID
) -> None:
    """Somebody has left a workspace. They cannot come back before messaging knows: there is one at most."""
    await connection.execute(
        insert(removals).values(
            workspace_id=workspace_id, user_id=user_id, change_id=change_id, changed_by=actor_id
        )
    )


async def claim(connection: AsyncConnection, errand: Errand, lease: float) -> Row[Any] | None:
    """Takes the lease, for seconds. None when there is nothing to tell, or somebody else is telling it."""
    until = func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, lease)
    done = await connection.execute(
        update(errand.table)
        .where(errand.untold(), errand.table.c.lease_until <= func.clock_timestamp())
        .values(lease_until=until)
        .returning(*errand.table.c)
    )
    return done.one_or_none()


async def held(connection: AsyncConnection, errand: Errand) -> Row[Any] | None:
    """The row of an errand, whose lease the caller has."""
    return (await connection.execute(select(errand.table).where(errand.row()))).one_or_none()


async def is_untold(connection: AsyncConnection, errand: Errand) -> bool:
    """Whether messaging still has to be told."""
    found = await connection.execute(select(errand.table.c.change_id).where(errand.untold()))
    return found.one_or_none() is not None


async def release(connection: AsyncConnection, errand: Errand, row: Row[Any]) -> None:
    """Gives the lease back, if it is still the one of `row`."""
    await connection.execute(
        update(errand.table)
        .where(errand.row(), errand.table.c.lease_until == row.lease_until)
        .values(lease_until=func.clock_timestamp())
    )


async def settle(connection: AsyncConnection, errand: Errand, row: Row[Any]) -> None:
    """Messaging knows what `row` says: what is over is deleted. A newer change stays to be told."""
    same = and_(errand.row(), errand.table.c.change_id == row.change_id)
    if is_over(errand, row):
        await connection.execute(delete(errand.table).where(same))
    else:
        state = ChannelState.ACTIVE if errand.table is channels else MemberState.IN
        await connection.execute(update(errand.table).where(same).values(told=True, state=state))
    await release(connection, errand, row)


async def drop(connection: AsyncConnection, errand: Errand, row: Row[Any]) -> None:
    """Messaging refuses what `row` says: it shall not be so. A newer change stays to be told."""
    same = and_(errand.row(), errand.table.c.change_id == row.change_id)
    await connection.execute(delete(errand.table).where(same))
    await release(connection, errand, row)


def is_over(errand: Errand, row: Row[Any]) -> bool:
    """Whether nothing is left of it when messaging knows."""
    if errand.table is removals:
        return True
    if errand.table is channels:
        return bool(row.state == ChannelState.CLOSING)
    return bool(row.state == MemberState.REMOVING)


async def due(connection: AsyncConnection, limit: int) -> Sequence[Errand]:
    """Errands that nobody is about, those that waited longest first; so many of each kind at most.

    Who left comes before who joins.
    """
    found: list[Errand] = []
    for table in (removals, channels, channel_members):
        key = [column.name for column in table.primary_key]
        for row in await connection.execute(_waiting(table, limit)):
            found.append(Errand(table, tuple(zip(key, row, strict=True))))
    return found


@cache
def _waiting(table: Table, limit: int) -> Select[Any]:
    """Made once: making it takes longer than asking it, and it is asked for ever."""
    return (
        select(*table.primary_key.columns)
        .where(_untold(table), table.c.lease_until <= func.clock_timestamp())
        .order_by(table.c.lease_until)
        .limit(limit)
    )
