"""Load on a stack whose parts are being killed, and what must hold of it afterwards."""

from __future__ import annotations

import asyncio
import math
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import asyncpg
import httpx

from tests.support.clients import Clients, Person
from tests.support.mailbox import Mailbox
from tests.support.mesh import channel_as
from tests.support.stack import Stack
from tests.support.waiting import until

LOADERS = 4
# Seconds in which all events must have had their effects once the stack is whole again.
SETTLED_WITHIN = 30
# What a call may come to while a part is away. Anything else is a fault.
_REFUSED = {503, 504}
# A device that has signed in before.
_FIRST_DEVICE = "First"


class Refused(Exception):
    """A call was not acknowledged, so nothing is owed."""


@dataclass
class Acknowledged:
    """What one person was told is done."""

    person: Person
    email: str
    devices: list[str]
    profile: bool = False


class Load:
    """People who register, sign in on a second device and make a profile, all the time.

    What was acknowledged is remembered. A success is a whole round, which asks every service. Each rests for
    `pause` seconds between two rounds.
    """

    def __init__(self, stack: Stack, pause: float = 0.0) -> None:
        self._stack = stack
        self._pause = pause
        self._stopping = asyncio.Event()
        self._success = asyncio.Condition()
        # When the latest of the rounds that have succeeded began.
        self._succeeded = -math.inf
        self.people: list[Acknowledged] = []
        self.broken: list[str] = []

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Loads while the block runs."""
        tasks = [asyncio.create_task(self._one()) for _ in range(LOADERS)]
        try:
            yield
        finally:
            self._stopping.set()
            await asyncio.gather(*tasks)

    async def success(self) -> None:
        """Waits until a round has succeeded that begins from now on.

        One under way may have asked what is away now while it was there.
        """
        now = time.monotonic()
        async with self._success:
            await self._success.wait_for(lambda: self._succeeded >= now)

    async def _one(self) -> None:
        while not self._stopping.is_set():
            async with Clients.of(self._stack) as clients:
                try:
                    while not self._stopping.is_set():
                        await self._round(clients)
                        await asyncio.sleep(self._pause)
                except Refused:
                    pass
                except httpx.TransportError:
                    # The edge is away.
                    await asyncio.sleep(0.01)

    async def _round(self, clients: Clients) -> None:
        began = time.monotonic()
        email = f"{secrets.token_hex(8)}@example.com"
        body = {"username": "u" + secrets.token_hex(8), "password": secrets.token_urlsafe(12), "email": email}
        made = await self._call(clients, "POST", "/v1/auth/register", body, device=_FIRST_DEVICE)
        person = Person(
            body["username"], body["password"], made["access_token"], made["refresh_token"], made["id"]
        )
        known = Acknowledged(person, email, [])
        self.people.append(known)
        login = {"username": person.username, "password": person.password}
        device = f"Device {secrets.token_hex(4)}"
        await self._call(clients, "POST", "/v1/auth/login", login, device=device)
        known.devices.append(device)
        await self._call(clients, "POST", "/v1/profile", {"display_name": "Somchai"}, token=person.token)
        known.profile = True
        await self._call(clients, "GET", "/v1/services")
        self._succeeded = max(self._succeeded, began)
        async with self._success:
            self._success.notify_all()

    async def _call(
        self,
        clients: Clients,
        verb: str,
        path: str,
        body: object = None,
        *,
        token: str = "",
        device: str = "",
    ) -> dict[str, str]:
        headers = {"authorization": f"Bearer {token}"} if token else {}
        headers |= {"user-agent": device} if device else {}
        reply = await clients.http.request(verb, path, json=body, headers=headers)
        if reply.status_code in _REFUSED:
            raise Refused
        if reply.status_code >= 300:
            self.broken.append(f"{verb} {path}: {reply.status_code} {reply.text[:300]}")
            raise Refused
        found: dict[str, str] = reply.json()
        return found


async def lost(stack: Stack, people: list[Acknowledged]) -> list[str]:
    """What was acknowledged and is not there."""
    gate = asyncio.Semaphore(LOADERS)
    async with Clients.of(stack) as clients:

        async def missing(one: Acknowledged) -> list[str]:
            body = {"username": one.person.username, "password": one.person.password}
            async with gate:
                # The device is known, so that checking tells nobody anything.
                known = {"user-agent": _FIRST_DEVICE}
                login = await _answer(clients, "POST", "/v1/auth/login", json=body, headers=known)
                if login.status_code != 200:
                    return [f"{one.person.username}: {login.status_code} {login.text[:300]}"]
                if not one.profile:
                    return []
                token = {"authorization": f"Bearer {login.json()['access_token']}"}
                profile = await _answer(clients, "GET", "/v1/profile", headers=token)
            return [] if profile.status_code == 200 else [f"{one.person.username}: {profile.text[:300]}"]

        found = await asyncio.gather(*(missing(one) for one in people))
    return [line for lines in found for line in lines]


async def _answer(clients: Clients, verb: str, path: str, **how: Any) -> httpx.Response:
    """What a call comes to. One that cannot be answered just now is made again: nothing is lost for that."""
    replies: list[httpx.Response] = []

    async def is_known() -> bool:
        replies.append(await clients.http.request(verb, path, **how))
        return replies[-1].status_code not in _REFUSED

    await until(is_known, True, within=SETTLED_WITHIN)
    return replies[-1]


async def events_settled(stack: Stack) -> None:
    """Waits until every event has been published and consumed; none may have been parked."""
    identity = await asyncpg.connect(stack.addresses.database("identity", owner=True))
    notification = await asyncpg.connect(stack.addresses.database("notification", owner=True))

    async def left() -> tuple[int, int]:
        unpublished = await identity.fetchval("SELECT count(*) FROM outbox WHERE published_at IS NULL")
        wanted = await identity.fetch("SELECT id FROM outbox WHERE subject LIKE '%.session.created'")
        consumed = await notification.fetch("SELECT event_id FROM inbox")
        return int(unpublished), len(ids(wanted) - ids(consumed))

    try:
        await until(left, (0, 0), within=SETTLED_WITHIN)
        parked = "SELECT count(*) FROM inbox_troubled WHERE parked_at IS NOT NULL"
        assert await notification.fetchval(parked) == 0
    finally:
        await identity.close()
        await notification.close()


def ids(rows: list[asyncpg.Record]) -> set[UUID]:
    """The first column."""
    return {row[0] for row in rows}


async def wrongly_told(stack: Stack, people: list[Acknowledged]) -> list[str]:
    """People who were told of a new device not at all, or twice, or of one that nobody used.

    A sign-in that was refused for an unknown outcome may have happened: it is told once, or not.
    """
    address = f"127.0.0.1:{stack.state.ports['notification']}"
    wrong = []
    async with channel_as("operator", address, "notification", stack.pki) as channel:
        mailbox = Mailbox(channel)
        for one in people:
            texts = [sent.body for sent in await mailbox.all(one.email) if sent.template == "new_device"]
            told = [text.split(": ")[1].split(". ")[0] for text in texts]
            if len(told) != len(set(told)) or not set(one.devices) <= set(told) or len(told) > 1:
                wrong.append(f"{one.person.username} signed in on {one.devices} and was told of {told}")
    return wrong
