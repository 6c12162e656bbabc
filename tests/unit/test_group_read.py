"""Group reads: who shares a query, and what happens when it fails."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

import pytest

from services.mesh.errors import NotFound
from services.mesh.group_read import GroupRead


class Store:
    """Values that are there, and a gate that each query waits at."""

    def __init__(self) -> None:
        self.values = {number: f"value {number}" for number in range(10)}
        self.asked: list[Sequence[int]] = []
        self.open = asyncio.Event()
        self.failure: Exception | None = None

    async def fetch(self, keys: Sequence[int]) -> Mapping[int, str]:
        """What is there after the gate has opened."""
        self.asked.append(keys)
        found = {key: self.values[key] for key in keys if key in self.values}
        await self.open.wait()
        if self.failure is not None:
            raise self.failure
        return found


async def test_callers_during_a_query_share_the_next() -> None:
    store = Store()
    read = GroupRead(store.fetch)
    first = asyncio.ensure_future(read.get(1))
    while not store.asked:
        await asyncio.sleep(0)
    others = [asyncio.ensure_future(read.get(key)) for key in (2, 3, 3, 99)]
    await asyncio.sleep(0)
    store.open.set()
    assert await asyncio.gather(first, *others) == ["value 1", "value 2", "value 3", "value 3", None]
    assert store.asked == [(1,), (2, 3, 99)]


async def test_caller_sees_what_was_written_before_its_call() -> None:
    store = Store()
    read = GroupRead(store.fetch)
    before = asyncio.ensure_future(read.get(1))
    while not store.asked:
        await asyncio.sleep(0)
    store.values[1] = "changed"
    after = asyncio.ensure_future(read.get(1))
    await asyncio.sleep(0)
    store.open.set()
    assert await before == "value 1"
    assert await after == "changed"


async def test_more_keys_than_a_query_may_have_are_asked_for_in_parts() -> None:
    store = Store()
    store.open.set()
    read = GroupRead(store.fetch, most=4)
    assert await asyncio.gather(*(read.get(key) for key in range(10))) == list(store.values.values())
    assert [len(keys) for keys in store.asked] == [4, 4, 2]


async def test_failure_reaches_every_caller_and_not_the_next() -> None:
    store = Store()
    store.open.set()
    store.failure = NotFound("gone")
    read = GroupRead(store.fetch)
    assert [type(one) for one in await asyncio.gather(read.get(1), read.get(2), return_exceptions=True)] == [
        NotFound,
        NotFound,
    ]
    store.failure = None
    assert await read.get(1) == "value 1"


async def test_caller_that_went_away_does_not_hurt_its_neighbours() -> None:
    store = Store()
    read = GroupRead(store.fetch)
    leaves, stays = asyncio.ensure_future(read.get(1)), asyncio.ensure_future(read.get(2))
    while not store.asked:
        await asyncio.sleep(0)
    leaves.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaves
    store.open.set()
    assert await stays == "value 2"
