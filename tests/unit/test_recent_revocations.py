"""Many who ask which sessions have ended cost one reading of the log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from services.identity import recent_revocations
from services.identity.recent_revocations import _KEPT, RecentRevocations
from services.mesh.revocation import HEARTBEAT, Page, Revocation

PAGE = 100


class Log:
    """A log of revocations that counts how often it is read."""

    def __init__(self, entries: int) -> None:
        self.entries = [Revocation(number, f"s{number}", 0.0) for number in range(1, entries + 1)]
        self.read = 0
        self.now = 0.0
        self.recent = RecentRevocations(self.fetch, PAGE, lambda: self.now)

    async def fetch(self, after: int) -> Sequence[Revocation]:
        self.read += 1
        await asyncio.sleep(0)
        return [one for one in self.entries if one.number > after][:PAGE]

    def grow(self, entries: int = 1) -> None:
        number = len(self.entries) + 1
        self.entries += [Revocation(one, f"s{one}", 0.0) for one in range(number, number + entries)]

    async def everything(self, after: int) -> list[int]:
        found: list[int] = []
        while page := await self.recent.after(found[-1] if found else after):
            assert len(page) <= PAGE
            found += [one.number for one in page]
        return found


async def test_all_who_ask_at_once_are_answered_by_one_reading() -> None:
    log = Log(3)
    answers = await asyncio.gather(*(log.recent.after(0) for _ in range(20)))
    assert all([one.number for one in answer] == [1, 2, 3] for answer in answers)
    # The second found nothing more.
    assert log.read == 2


async def test_what_is_new_is_seen_a_fifth_of_a_second_later() -> None:
    log = Log(1)
    assert await log.everything(0) == [1]
    log.grow()
    log.now = 0.201
    assert await log.everything(1) == [2]


async def test_who_begins_later_than_the_first_reads_all_of_the_log() -> None:
    log = Log(5)
    assert await log.everything(5) == []
    assert await log.everything(0) == [1, 2, 3, 4, 5]


async def test_a_long_log_comes_in_pages_and_its_beginning_is_not_kept() -> None:
    log = Log(3)
    await log.everything(0)
    log.grow(3 * _KEPT)
    log.now = 1.0
    assert await log.everything(2) == list(range(3, 3 * _KEPT + 4))
    assert len(log.recent._recent) <= 2 * _KEPT
    assert await log.everything(0) == list(range(1, 3 * _KEPT + 4))


async def test_a_reading_that_failed_is_tried_again_by_the_next() -> None:
    log = Log(0)
    good = log.recent._fetch

    async def bad(_: int) -> Sequence[Revocation]:
        raise ConnectionError

    log.recent._fetch = bad
    try:
        await log.recent.after(0)
    except ConnectionError:
        log.recent._fetch = good
    log.grow()
    assert await log.everything(0) == [1]


async def test_who_watches_is_told_of_the_past_at_once_and_then_of_what_is_new() -> None:
    log = Log(PAGE + 1)
    watching = log.recent.watch(0)
    first, second = await anext(watching), await anext(watching)
    assert [one.number for one in (*first.revocations, *second.revocations)] == list(range(1, PAGE + 2))
    assert (first.complete, second.complete) == (False, True)
    log.grow()
    log.now += 1
    third = await anext(watching)
    assert [one.number for one in third.revocations] == [PAGE + 2]
    log.recent.close()
    with pytest.raises(StopAsyncIteration):
        await anext(watching)


async def test_who_begins_to_watch_is_told_of_all_that_had_ended_by_then() -> None:
    log = Log(1)
    assert await log.everything(0) == [1]
    log.grow()
    log.now = 0.001
    assert [one.number for one in (await anext(log.recent.watch(0))).revocations] == [1, 2]


async def test_who_watches_is_told_now_and_then_that_there_is_nothing_new(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(recent_revocations, "_LOOK", 0.01)
    log = Log(0)
    watching = log.recent.watch(0)
    assert await anext(watching) == Page([], complete=True)
    waiting = asyncio.create_task(anext(watching))
    log.now += HEARTBEAT
    assert await waiting == Page([], complete=True)
    log.recent.close()
