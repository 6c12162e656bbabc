"""What people do in channels, and whether messaging knows all of it."""

from __future__ import annotations

from typing import Any

import asyncpg

from sampan.workspace.v1 import workspace_service_pb2 as pb
from tests.support.waiting import until
from tests.support.workspace import Caller, MessagingPlayed, channel_request


async def untold(tables: asyncpg.Connection) -> int:
    """How many errands wait."""
    found = await tables.fetchval(
        "SELECT (SELECT count(*) FROM channels WHERE NOT told)"
        " + (SELECT count(*) FROM channel_members WHERE NOT told) + (SELECT count(*) FROM removals)"
    )
    return int(found)


async def all_told(tables: asyncpg.Connection) -> None:
    """Returns when messaging knows all."""
    await until(lambda: untold(tables), 0, within=20)


async def waiting(messaging: MessagingPlayed, count: int = 1) -> None:
    """Returns when so many calls have come to messaging and wait there."""

    async def come() -> bool:
        return messaging.waiting >= count

    await until(come, True, within=20)


async def joined(caller: Caller, channel: pb.Channel, **more: str) -> pb.Channel:
    found: pb.Channel = await caller.JoinChannel(channel_request(pb.JoinChannelRequest, channel, **more))
    return found


async def left(caller: Caller, channel: pb.Channel) -> None:
    await caller.LeaveChannel(channel_request(pb.LeaveChannelRequest, channel))


async def added(caller: Caller, channel: pb.Channel, user_id: str, **more: str) -> None:
    request = channel_request(pb.AddToChannelRequest, channel, user_id=user_id, **more)
    await caller.AddToChannel(request)


async def taken_out(caller: Caller, channel: pb.Channel, user_id: str) -> None:
    await caller.RemoveFromChannel(channel_request(pb.RemoveFromChannelRequest, channel, user_id=user_id))


async def closed(caller: Caller, channel: pb.Channel) -> None:
    await caller.DeleteChannel(channel_request(pb.DeleteChannelRequest, channel))


async def got(caller: Caller, channel: pb.Channel) -> pb.Channel:
    found: pb.Channel = await caller.GetChannel(channel_request(pb.GetChannelRequest, channel))
    return found


async def changed(caller: Caller, channel: pb.Channel, **what: Any) -> pb.Channel:
    request = channel_request(pb.UpdateChannelRequest, channel, **what)
    answer: pb.Channel = await caller.UpdateChannel(request)
    return answer
