"""SQL of channels and of who is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from sqlalchemy import (
    ColumnElement,
    Row,
    SmallInteger,
    and_,
    case,
    delete,
    exists,
    func,
    literal,
    or_,
    select,
    update,
)
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection

from services.workspace.domain import ChannelState, MemberState
from services.workspace.models import channel_members, channels


@dataclass(frozen=True, slots=True)
class NewChannel:
    """A channel as it is written."""

    id: UUID
    workspace_id: UUID
    name: str
    name_key: str
    description: str
    is_private: bool
    created_by: UUID
    change_id: UUID


def _in_it(user_id: UUID) -> ColumnElement[bool]:
    return exists().where(
        channel_members.c.channel_id == channels.c.id,
        channel_members.c.user_id == user_id,
        channel_members.c.state == MemberState.IN,
    )


def _shown(workspace_id: UUID, user_id: UUID) -> ColumnElement[bool]:
    """Channels of a workspace that one of its members may see."""
    return and_(
        channels.c.workspace_id == workspace_id,
        channels.c.state == ChannelState.ACTIVE,
        or_(~channels.c.is_private, _in_it(user_id)),
    )


def _leased(seconds: float) -> ColumnElement[Any]:
    return func.clock_timestamp() + func.make_interval(0, 0, 0, 0, 0, 0, seconds)


async def insert_channel(connection: AsyncConnection, new: NewChannel, lease: float) -> bool:
    """Makes a pending channel, leased to the caller, with its maker in it. False when its name is taken."""
    done = await connection.execute(
        upsert(channels)
        .values(
            id=new.id,
            workspace_id=new.workspace_id,
            name=new.name,
            name_key=new.name_key,
            description=new.description,
            is_private=new.is_private,
            created_by=new.created_by,
            state=ChannelState.PENDING,
            told=False,
            change_id=new.change_id,
            changed_by=new.created_by,
            lease_until=_leased(lease),
        )
        .on_conflict_do_nothing()
    )
    if done.rowcount != 1:
        return False
    await connection.execute(
        upsert(channel_members).values(
            channel_id=new.id,
            user_id=new.created_by,
            workspace_id=new.workspace_id,
            state=MemberState.IN,
            told=True,
            change_id=new.change_id,
            changed_by=new.created_by,
        )
    )
    return True


async def give_up(connection: AsyncConnection, new: NewChannel) -> bool:
    """Closes the caller's own channel of a name that is pending and that nobody is about, if there is one."""
    done = await connection.execute(
        update(channels)
        .where(
            channels.c.workspace_id == new.workspace_id,
            channels.c.name_key == new.name_key,
            channels.c.created_by == new.created_by,
            channels.c.state == ChannelState.PENDING,
            channels.c.lease_until <= func.clock_timestamp(),
        )
        .values(state=ChannelState.CLOSING, change_id=func.gen_random_uuid())
    )
    return done.rowcount == 1


async def channel_row(connection: AsyncConnection, channel_id: UUID) -> Row[Any] | None:
    """A channel in any state, or None."""
    return (await connection.execute(select(channels).where(channels.c.id == channel_id))).one_or_none()


async def channel_of(
    connection: AsyncConnection, workspace_id: UUID, channel_id: UUID, user_id: UUID
) -> Row[Any] | None:
    """A channel that a member of its workspace may see, and whether they are in it (`is_in`); or None."""
    found = await connection.execute(
        select(channels, _in_it(user_id).label("is_in")).where(
            _shown(workspace_id, user_id), channels.c.id == channel_id
        )
    )
    return found.one_or_none()


async def channels_after(
    connection: AsyncConnection, workspace_id: UUID, user_id: UUID, after: str | None, limit: int
) -> list[Row[Any]]:
    """Channels that a member may see, by name, after a name."""
    statement = (
        select(channels).where(_shown(workspace_id, user_id)).order_by(channels.c.name_key).limit(limit)
    )
    if after is not None:
        statement = statement.where(channels.c.name_key > after)
    return list(await connection.execute(statement))


async def count_channels(connection: AsyncConnection, workspace_id: UUID, user_id: UUID) -> int:
    """How many channels a member may see."""
    counted = select(func.count()).select_from(channels).where(_shown(workspace_id, user_id))
    return (await connection.execute(counted)).scalar_one()


async def update_channel(
    connection: AsyncConnection,
    channel_id: UUID,
    changes: Mapping[str, object],
    *,
    change_id: UUID,
    actor_id: UUID,
) -> None:
    """Sets columns of a channel; messaging is to be told. Breaks `channels_name_key` for a taken name."""
    await connection.execute(
        update(channels)
        .where(channels.c.id == channel_id)
        .values(**changes, told=False, change_id=change_id, changed_by=actor_id)
    )


async def close_channel(
    connection: AsyncConnection, channel_id: UUID, *, change_id: UUID, actor_id: UUID
) -> None:
    """Closes a channel for everybody; messaging is to be told."""
    closing = {"state": ChannelState.CLOSING}
    await update_channel(connection, channel_id, closing, change_id=change_id, actor_id=actor_id)
    await connection.execute(delete(channel_members).where(channel_members.c.channel_id == channel_id))


async def close_channels(connection: AsyncConnection, workspace_id: UUID, actor_id: UUID) -> None:
    """Closes all channels of a workspace."""
    await connection.execute(delete(channel_members).where(channel_members.c.workspace_id == workspace_id))
    await connection.execute(
        update(channels)
        .where(channels.c.workspace_id == workspace_id, channels.c.state != ChannelState.CLOSING)
        .values(state=ChannelState.CLOSING, told=False, change_id=func.gen_random_uuid(), changed_by=actor_id)
    )


async def put_in(
    connection: AsyncConnection,
    channel: Row[Any],
    user_id: UUID,
    *,
    change_id: UUID,
    actor_id: UUID,
) -> None:
    """Begins to put somebody into a channel; who is in it stays. Messaging is to be told in any case."""
    new = {"told": False, "change_id": change_id, "changed_by": actor_id}
    statement = upsert(channel_members).values(
        channel_id=channel.id,
        user_id=user_id,
        workspace_id=channel.workspace_id,
        state=MemberState.ADDING,
        **new,
    )
    # A lease stays with whoever has it: they see another change_id and go on with this one.
    await connection.execute(
        statement.on_conflict_do_update(
            index_elements=["channel_id", "user_id"],
            set_=new
            | {
                "state": case(
                    (channel_members.c.state == MemberState.IN, channel_members.c.state),
                    else_=literal(MemberState.ADDING, SmallInteger),
                )
            },
        )
    )


async def take_out(
    connection: AsyncConnection, channel_id: UUID, user_id: UUID, *, change_id: UUID, actor_id: UUID
) -> None:
    """Takes somebody out of a channel; messaging is to be told. Who is not in it changes nothing."""
    await connection.execute(
        update(channel_members)
        .where(
            channel_members.c.channel_id == channel_id,
            channel_members.c.user_id == user_id,
            channel_members.c.state != MemberState.REMOVING,
        )
        .values(state=MemberState.REMOVING, told=False, change_id=change_id, changed_by=actor_id)
    )


async def take_out_of_all(
    connection: AsyncConnection, workspace_id: UUID, user_id: UUID, *, actor_id: UUID
) -> int:
    """Takes somebody out of all channels of a workspace, without telling messaging of each.

    What messaging is just being told must be told again: who is being put into a channel is taken out, and
    a channel that they are making is closed. Returns how many were closed.
    """
    theirs = and_(channel_members.c.workspace_id == workspace_id, channel_members.c.user_id == user_id)
    await connection.execute(delete(channel_members).where(theirs, channel_members.c.told))
    again = {"told": False, "change_id": func.gen_random_uuid(), "changed_by": actor_id}
    await connection.execute(
        update(channel_members).where(theirs).values(state=MemberState.REMOVING, **again)
    )
    done = await connection.execute(
        update(channels)
        .where(
            channels.c.workspace_id == workspace_id,
            channels.c.created_by == user_id,
            channels.c.state == ChannelState.PENDING,
        )
        .values(state=ChannelState.CLOSING, **again)
    )
    return done.rowcount
