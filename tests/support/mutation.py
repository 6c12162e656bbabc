"""A request that can be sent under any `request_id`, and how its effects are counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import asyncpg
from google.protobuf.message import Message

from tests.support.chat import Talkers
from tests.support.mailbox import Mailbox
from tests.support.mesh import Minter
from tests.support.workspace import People

Send = Callable[[str], Awaitable[Message]]


@dataclass(frozen=True)
class World:
    """Services as their callers see them, their databases as their owners do, and what people were sent.

    `operating` is identity for the operator, `delivering` and `notifying` are notification for identity and
    for the operator, `standing` and `reviewing` payment for these two, `settling` payment for commerce;
    `people` talk through messaging.
    """

    identity: Any
    operating: Any
    profile: Any
    delivering: Any
    notifying: Any
    presence: Any
    payment: Any
    standing: Any
    reviewing: Any
    settling: Any
    minter: Minter
    identity_owner: asyncpg.Connection
    profile_owner: asyncpg.Connection
    notification_owner: asyncpg.Connection
    presence_owner: asyncpg.Connection
    messaging_owner: asyncpg.Connection
    workspace_owner: asyncpg.Connection
    payment_owner: asyncpg.Connection
    mailbox: Mailbox
    people: Talkers
    workspaces: People


@dataclass(frozen=True)
class Mutation:
    """A request that can be sent under any `request_id`.

    `other` is another request of the same person, `elsewhere` one of somebody else; None where there is none.
    `effects` maps what is counted in the database to by how much it changes.
    """

    send: Send
    owner: asyncpg.Connection
    effects: dict[str, int]
    other: Send | None = None
    elsewhere: Send | None = None
    # What `other` is refused with, under the same id.
    refusal: str = "REQUEST_ID_REUSED"
    # How many messages were sent.
    messages: Callable[[], Awaitable[int]] | None = None

    async def count(self) -> dict[str, int]:
        """What is in the database now."""
        found = {what: await self.owner.fetchval(f"SELECT {what}") or 0 for what in self.effects}
        if self.messages is not None:
            found["messages"] = await self.messages()
        return found

    def after(self, before: dict[str, int]) -> dict[str, int]:
        """What must be there after the effect, once."""
        wanted = {what: before[what] + change for what, change in self.effects.items()}
        if self.messages is not None:
            wanted["messages"] = before["messages"] + 1
        return wanted


def sender(method: Any, request: Message, token: str = "") -> Send:
    """Sends a request under a given id."""
    metadata = [("authorization", f"Bearer {token}")] if token else []

    async def send(request_id: str) -> Message:
        copy = type(request)()
        copy.CopyFrom(request)
        copy.request_id = request_id  # type: ignore[attr-defined]
        answer: Message = await method(copy, metadata=metadata)
        return answer

    return send
