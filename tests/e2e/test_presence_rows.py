"""Row M10 of the contract over REST, through the edge: online while a stream is open, offline after it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from tests.support.clients import Clients, Person
from tests.support.doors import Reply
from tests.support.waiting import until

# A stream that has ended lingers for 5 s; the rest is for a busy machine.
LINGERS = 20.0


async def call(clients: Clients, person: Person, method: str, path: str, body: Any = None) -> Reply:
    """A call of somebody who is signed in."""
    return await clients.rest.call(method, path, body, token=person.token)


async def friends(clients: Clients) -> tuple[Person, Person]:
    """Two who share a dialog."""
    one, other = await clients.register(), await clients.register()
    made = await call(clients, one, "POST", "/v1/dialogs", {"participants": [other.id]})
    assert made.code == 201, made
    return one, other


def looks(clients: Clients, viewer: Person, other: Person) -> Callable[[], Awaitable[str]]:
    """How one looks to another, asked anew each time."""

    async def ask() -> str:
        return str((await shown(clients, viewer, other))["status"])

    return ask


async def shown(clients: Clients, viewer: Person, other: Person) -> dict[str, Any]:
    """All that one sees of another."""
    reply = await call(clients, viewer, "GET", f"/v1/presence?user_ids={other.id}")
    assert reply.code == 200, reply
    found: dict[str, Any] = reply.body["presences"][0]
    return found


@asynccontextmanager
async def streaming(clients: Clients, person: Person, device: str = "phone") -> AsyncIterator[None]:
    """A live stream of somebody's device, of which a first frame has come."""
    path = f"/v1/events?device_id={device}"
    headers = {"authorization": f"Bearer {person.token}"}
    async with clients.http.stream("GET", path, headers=headers) as answer:
        assert answer.status_code == 200
        lines = answer.aiter_lines()
        await anext(lines)
        yield


async def test_who_has_a_stream_is_online_and_afterwards_offline_with_last_seen(clients: Clients) -> None:
    somchai, mali = await friends(clients)
    assert await looks(clients, mali, somchai)() == "offline"
    async with streaming(clients, somchai):
        await until(looks(clients, mali, somchai), "online", within=20)
        assert "last_seen" not in await shown(clients, mali, somchai)
    await until(looks(clients, mali, somchai), "offline", within=LINGERS)
    assert (await shown(clients, mali, somchai))["last_seen"]


def goes_away(clients: Clients, person: Person, device: str) -> Callable[[], Awaitable[tuple[int, str]]]:
    """Says that a device is away; code and status of the answer."""

    async def put() -> tuple[int, str]:
        body = {"status": "away", "device_id": device}
        reply = await call(clients, person, "PUT", "/v1/presence", body)
        return reply.code, str(reply.body["status"])

    return put


async def test_of_several_devices_the_most_awake_counts(clients: Clients) -> None:
    somchai, mali = await friends(clients)
    async with streaming(clients, somchai, "tablet"):
        async with streaming(clients, somchai, "phone"):
            await until(looks(clients, mali, somchai), "online", within=20)
            for device, status in (("tablet", "online"), ("phone", "away")):
                # Until both are known, the one that is known is all that counts.
                await until(goes_away(clients, somchai, device), (200, status), within=20)
            assert await looks(clients, mali, somchai)() == "away"
        await until(looks(clients, mali, somchai), "away", within=LINGERS)


async def test_strangers_see_everybody_offline(clients: Clients) -> None:
    somchai, mali = await friends(clients)
    stranger = await clients.register()
    async with streaming(clients, somchai):
        await until(looks(clients, mali, somchai), "online", within=20)
        found = await shown(clients, stranger, somchai)
        assert (found["status"], found.get("last_seen")) == ("offline", None)


async def test_hiding_when_one_was_last_seen_hides_it_of_others(clients: Clients) -> None:
    somchai, mali = await friends(clients)
    for person, viewer in ((somchai, mali), (mali, somchai)):
        async with streaming(clients, person):
            await until(looks(clients, viewer, person), "online", within=20)
    for person, viewer in ((somchai, mali), (mali, somchai)):
        await until(looks(clients, viewer, person), "offline", within=LINGERS)
        assert (await shown(clients, viewer, person))["last_seen"]
    reply = await call(clients, somchai, "PATCH", "/v1/presence/preferences", {"last_seen_hidden": True})
    assert (reply.code, reply.body) == (200, {"last_seen_hidden": True, "invisible": False})

    async def hidden() -> bool:
        pairs = ((somchai, mali), (mali, somchai))
        return not any([(await shown(clients, viewer, one)).get("last_seen") for one, viewer in pairs])

    # The bar is 1 s.
    assert await until(hidden, wanted=True, within=20) < 1.0
    again = await call(clients, somchai, "GET", "/v1/presence/preferences")
    assert again.body == reply.body


async def test_the_invisible_are_offline_to_others_while_their_stream_is_open(clients: Clients) -> None:
    somchai, mali = await friends(clients)
    async with streaming(clients, somchai):
        await until(looks(clients, mali, somchai), "online", within=20)
        await call(clients, somchai, "PATCH", "/v1/presence/preferences", {"invisible": True})
        await until(looks(clients, mali, somchai), "offline", within=20)
        assert await looks(clients, somchai, somchai)() == "online"
