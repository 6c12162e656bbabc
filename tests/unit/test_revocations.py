"""What a process knows of ended sessions, whoever stops telling it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from services.mesh import logs
from services.mesh.call import User
from services.mesh.errors import Unavailable
from services.mesh.revocation import Page, Revocation, Revocations


def user(session: str) -> User:
    return User("u", session, "t", frozenset(), 1e12)


class Teller:
    """Tells pages, then what a test wants: nothing for ever, an end, or an error."""

    def __init__(self, *talks: list[Page | BaseException | None]) -> None:
        self.talks = list(talks)
        self.asked: list[int] = []
        self.now = 1000.0
        self.closed = 0
        self.list = Revocations(self.watch, lambda: self.now, logs.logger("test"), patience=0.05)

    async def watch(self, after: int) -> AsyncGenerator[Page]:
        self.asked.append(after)
        try:
            for said in self.talks.pop(0) if self.talks else []:
                if said is None:
                    await asyncio.get_running_loop().create_future()
                elif isinstance(said, Page):
                    yield said
                else:
                    raise said
        finally:
            self.closed += 1


def page(*numbers: int, complete: bool = True, until: float = 2000.0) -> Page:
    return Page([Revocation(number, f"s{number}", until) for number in numbers], complete)


async def test_it_is_loaded_when_it_is_whole() -> None:
    teller = Teller([page(1, 2, complete=False), page(3), None])
    await teller.list.load()
    assert all(teller.list.is_revoked(user(f"s{number}")) for number in (1, 2, 3))
    assert not teller.list.is_revoked(user("s4"))
    assert (teller.asked, teller.closed) == ([0], 1)
    assert teller.list.silent_seconds == 0


@pytest.mark.parametrize("end", [Unavailable(), None], ids=["fails", "says nothing more"])
async def test_who_stops_telling_is_asked_anew_from_what_is_known(end: BaseException | None) -> None:
    teller = Teller([page(1), end], [page(2), None])
    told: list[str] = []
    teller.list.listeners.append(told.append)
    following = asyncio.create_task(teller.list.follow())
    async with asyncio.timeout(20):
        while told != ["s1", "s2"]:
            await asyncio.sleep(0.01)
    following.cancel()
    await asyncio.gather(following, return_exceptions=True)
    assert teller.asked[:2] == [0, 1]
    assert teller.closed == len(teller.asked)


async def test_an_ended_watch_is_asked_anew() -> None:
    teller = Teller([page(1, complete=False)], [page(2)])
    await teller.list.load()
    assert teller.asked == [0, 1]


async def test_what_no_token_can_be_valid_for_any_more_is_forgotten() -> None:
    teller = Teller([page(1, until=1001.0)], [page(2)])
    await teller.list.load()
    teller.now = 1002.0
    await teller.list.load()
    assert [teller.list.is_revoked(user(one)) for one in ("s1", "s2")] == [False, True]


async def test_after_too_long_a_silence_it_is_not_known_who_is_signed_in() -> None:
    teller = Teller([page()])
    await teller.list.load()
    teller.now += 30
    teller.list.require_heard(30)
    teller.now += 1
    with pytest.raises(Unavailable):
        teller.list.require_heard(30)
