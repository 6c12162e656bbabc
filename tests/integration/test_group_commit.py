"""Group commit on a real database behind a network that fails: each caller learns the truth."""

from __future__ import annotations

import asyncio
import os
import signal
import time
import uuid
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import dataclass

import pytest

from services.mesh.errors import (
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    OutcomeUnknown,
    Overloaded,
    Unavailable,
)
from services.mesh.fast_database import FastDatabase
from services.mesh.group_commit import GroupCommit, Limits
from tests.support.posts import NOT_TEXT, POISON, REFUSED, Post, Posts, Truth, truth
from tests.support.proxy import Cut, Proxy, proxy_before
from tests.support.stack import Stack
from tests.support.waiting import until

TIMEOUT = 2.0
LIMITS = Limits(parallel=2, patience=8.0)


@dataclass(frozen=True)
class Far:
    """Group commit, the network before its database, and what the database says itself."""

    group: GroupCommit[Post, int]
    store: Posts
    network: Proxy
    truth: Truth

    def submit(self, post: Post) -> asyncio.Task[int]:
        """Submits in a task of its own."""
        return asyncio.ensure_future(self.group.submit(post, lane=post.lane))

    async def all(self, posts: Iterable[Post]) -> list[int | BaseException]:
        """Submits all at once; their answers."""
        return await asyncio.gather(*map(self.submit, posts), return_exceptions=True)

    async def until_held(self, commits: int = 1) -> None:
        """Waits until so many commits are held up."""
        await until(self.truth.held, commits, within=20)


@pytest.fixture(scope="module")
async def posts_truth(stack: Stack) -> AsyncIterator[Truth]:
    async with truth(stack) as found:
        yield found


async def far_of(found: Truth, *, one_call: bool, limits: Limits) -> AsyncIterator[Far]:
    await found.operator.execute("TRUNCATE posts")
    async with proxy_before(found.url) as network:
        database = FastDatabase(network.url(found.url), pool=3, timeout=TIMEOUT, name="tests")
        store = Posts(database, one_call=one_call)
        group = GroupCommit(store, limits=limits)
        try:
            yield Far(group, store, network, found)
        finally:
            network.resume()
            await found.operator.execute("SELECT pg_advisory_unlock_all()")
            await found.conflicts(0)
            await group.close(5)
            await database.close()


@pytest.fixture(params=["one call", "transaction"])
async def far(posts_truth: Truth, request: pytest.FixtureRequest) -> AsyncIterator[Far]:
    async for found in far_of(posts_truth, one_call=request.param == "one call", limits=LIMITS):
        yield found


@pytest.fixture
async def small(posts_truth: Truth) -> AsyncIterator[Far]:
    """With room for little, and one batch at a time."""
    limits = Limits(parallel=1, queue=10, batch=4, patience=0.5)
    async for found in far_of(posts_truth, one_call=True, limits=limits):
        yield found


def last_word(far: Far, post: Post) -> list[bytes]:
    """What the client says when it sends what will be committed."""
    return [post.key.bytes] if far.store.one_call else [post.key.bytes, b"COMMIT"]


async def test_every_caller_gets_its_own_result(far: Far) -> None:
    posts = [Post(lane=number % 7, value=number) for number in range(500)]
    numbers = await far.all(posts)
    rows = await far.truth.operator.fetch("SELECT key, no FROM posts")
    assert dict(zip((post.key for post in posts), numbers, strict=True)) == dict(rows)
    assert len(far.store.batches) < 50


async def test_a_key_that_is_there_gets_the_result_of_then(far: Far) -> None:
    post = Post()
    assert await far.submit(post) == await far.submit(post)
    assert await far.truth.keys() == [post.key]


async def test_one_poisoned_entry_among_two_hundred_fails_alone(far: Far) -> None:
    posts = [Post(lane=number, value=POISON if number == 77 else number) for number in range(200)]
    answers = await far.all(posts)
    assert [number for number, answer in enumerate(answers) if isinstance(answer, BaseException)] == [77]
    assert type(answers[77]) is Internal
    assert set(await far.truth.keys()) == {post.key for post in posts} - {posts[77].key}
    # Halves, and not one by one.
    assert 5 <= far.group.counters.halvings <= 9


async def test_a_poisoned_entry_keeps_the_order_of_its_lane(far: Far) -> None:
    posts = [Post(lane=1, value=POISON if number % 9 == 5 else number) for number in range(100)]
    await far.all(posts)
    assert await far.truth.values(1) == [post.value for post in posts if post.value != POISON]


async def test_a_refused_entry_gets_its_own_error_and_cuts_nothing(far: Far) -> None:
    answers = await far.all([Post(lane=1), Post(lane=2, value=REFUSED), Post(lane=3)])
    assert [type(answer) for answer in answers] == [int, FailedPrecondition, int]
    assert far.group.counters.halvings == 0


async def test_a_text_that_cannot_be_stored_is_an_invalid_argument(far: Far) -> None:
    answers = await far.all([Post(lane=1), Post(lane=2, value=NOT_TEXT)])
    assert [type(answer) for answer in answers] == [int, InvalidArgument]


async def test_a_value_that_the_driver_refuses_fails_alone(far: Far) -> None:
    answers = await far.all([Post(lane=1), Post(lane=2, value=1 << 40), Post(lane=3)])
    assert [type(answer) for answer in answers] == [int, Internal, int]


@pytest.mark.parametrize("state", ["40001", "40P01"])
async def test_a_conflict_is_tried_again_whole(far: Far, state: str) -> None:
    await far.truth.conflicts(2, state)
    answers = await far.all([Post(lane=number) for number in range(20)])
    assert {type(answer) for answer in answers} == {int}
    assert (far.group.counters.retries, far.group.counters.halvings) == (2, 0)
    assert far.store.batches == [20, 20, 20]


async def test_conflicts_without_end_are_unavailable_after_the_last_try(far: Far) -> None:
    await far.truth.conflicts(100)
    answers = await far.all([Post(lane=number) for number in range(3)])
    assert [type(answer) for answer in answers] == [Unavailable] * 3
    assert far.store.batches == [3] * LIMITS.tries
    assert await far.truth.keys() == []


@pytest.mark.parametrize("answered", [False, True])
async def test_a_connection_cut_during_commit_leaves_one_effect(far: Far, answered: bool) -> None:
    await far.submit(Post(lane=9))
    posts = [Post(lane=number, value=number) for number in range(50)]
    cut = far.network.cut_when = Cut(last_word(far, posts[0]), answered=answered)
    answers = await far.all(posts)
    assert cut.done == 1
    assert {type(answer) for answer in answers} == {int}
    assert far.group.counters.unknown == 1
    # What PostgreSQL kept is found, what it never saw is posted again.
    assert far.group.counters.retries == (0 if answered else 1)
    assert Counter(await far.truth.keys()) == Counter(await keys_and_first(far, posts))


async def keys_and_first(far: Far, posts: list[Post]) -> list[uuid.UUID]:
    """The keys of posts, and that of the first one that a test made to have a connection."""
    first = await far.truth.operator.fetchval("SELECT key FROM posts WHERE lane = 9 ORDER BY no LIMIT 1")
    return [first, *(post.key for post in posts)]


async def test_a_commit_held_up_past_its_connection_is_not_done_beside_its_second_post(far: Far) -> None:
    await far.truth.hold()
    post = Post()
    answer = far.submit(post)
    await far.until_held()
    (before,) = await far.truth.backends()
    far.network.cut()

    async def others() -> list[int]:
        return [pid for pid in await far.truth.backends() if pid == before]

    # The server process does not notice by itself: it waits for the lock, and would commit after it.
    await until(others, [], within=20)
    await far.until_held()
    await far.truth.release()
    number = await answer
    rows = await far.truth.operator.fetch("SELECT key, no FROM posts")
    assert [tuple(row) for row in rows] == [(post.key, number)]


async def test_a_statement_that_the_server_has_not_read_yet_is_not_done_later(far: Far) -> None:
    await far.submit(Post(lane=9))
    (pid,) = await far.truth.backends()
    os.kill(pid, signal.SIGSTOP)
    post = Post()
    try:
        answer = far.submit(post)

        async def unknown() -> bool:
            return far.group.counters.unknown > 0 or answer.done()

        # The client gives up; its words lie in the socket of a process that sleeps.
        await until(unknown, wanted=True, within=4 * TIMEOUT)
        assert post.key not in await far.truth.keys()
    finally:
        os.kill(pid, signal.SIGCONT)
    try:
        await answer
        expected = 1
    except Unavailable as error:
        # BEGIN was not answered: certainly nothing was done.
        assert type(error) is Unavailable
        expected = 0
    await far.submit(Post(lane=9))
    assert (await far.truth.keys()).count(post.key) == expected
    assert expected == (1 if far.store.one_call else 0)


async def test_what_nobody_can_tell_is_outcome_unknown_and_done_at_most_once(small: Far) -> None:
    await small.submit(Post(lane=9))
    await small.truth.hold()
    lost = small.submit(Post(lane=1, value=1))
    await small.until_held()
    small.network.refuses = True
    small.network.cut()
    next_one = small.submit(Post(lane=1, value=2))
    with pytest.raises(OutcomeUnknown):
        await lost
    assert type((await asyncio.gather(next_one, return_exceptions=True))[0]) is Unavailable
    small.network.refuses = False
    # The held commit would come now; but nothing new begins before it is out of the world.
    third = small.submit(Post(lane=1, value=3))
    await until(small.truth.backends, await replaced(small), within=20)
    await small.truth.release()
    await third
    assert await small.truth.values(1) == [3]


async def replaced(far: Far) -> list[int]:
    """The server processes once that of the lost commit is gone and a new one waits."""
    old = await far.truth.backends()

    async def news() -> bool:
        pids = await far.truth.backends()
        return bool(pids) and not set(pids) & set(old)

    await until(news, wanted=True, within=20)
    return await far.truth.backends()


async def test_cancelled_callers_hurt_nobody(small: Far) -> None:
    await small.truth.hold()
    batch = [Post(lane=number) for number in range(3)]
    flying = [small.submit(post) for post in batch]
    await small.until_held()
    queued = [Post(lane=number) for number in range(3)]
    waiting = [small.submit(post) for post in queued]
    await until(depth_of(small), 3, within=20)
    flying[1].cancel()
    waiting[1].cancel()
    await until(depth_of(small), 2, within=20)
    await small.truth.release()
    answers = await asyncio.gather(*flying, *waiting, return_exceptions=True)
    cancelled = asyncio.CancelledError
    assert [type(answer) for answer in answers] == [int, cancelled, int, int, cancelled, int]
    # Who was in the batch is done, who waited is not.
    assert set(await small.truth.keys()) == {post.key for post in [*batch, *queued]} - {queued[1].key}
    assert small.group.counters.dropped == 1


def depth_of(far: Far) -> Callable[[], Awaitable[int]]:
    """Asks how many wait."""

    async def depth() -> int:
        return far.group.depth

    return depth


async def test_over_a_full_queue_is_refused_at_once(small: Far) -> None:
    await small.truth.hold()
    first = small.submit(Post(lane=0))
    await small.until_held()
    queued = [small.submit(Post(lane=0, value=number)) for number in range(10)]
    await until(depth_of(small), 10, within=20)
    with pytest.raises(Overloaded) as refusal:
        await small.group.submit(Post(lane=1), lane=1)
    assert refusal.value.retry_after() == 1.0
    await small.truth.release()
    await asyncio.gather(first, *queued)
    assert await small.truth.values(0) == [0, *range(10)]
    assert small.group.counters.refused == 1
    # One lane, so one batch after the other, none over its bound.
    assert small.store.batches == [1, 4, 4, 2]


async def test_an_entry_without_time_left_is_dropped_before_its_batch(small: Far) -> None:
    late, alive = Post(lane=1), Post(lane=2)
    answers = await asyncio.gather(
        small.group.submit(late, lane=1, ends=time.perf_counter() - 0.001),
        small.group.submit(alive, lane=2, ends=time.perf_counter() + 60),
        return_exceptions=True,
    )
    assert [type(answer) for answer in answers] == [DeadlineExceeded, int]
    assert await small.truth.keys() == [alive.key]


async def test_closing_finishes_what_waits_and_then_refuses(small: Far) -> None:
    await small.truth.hold()
    answers = [small.submit(Post(lane=0, value=number)) for number in range(9)]
    await small.until_held()
    closing = asyncio.ensure_future(small.group.close(10))
    with pytest.raises(Unavailable):
        await asyncio.wait_for(until_refused(small), 5)
    await small.truth.release()
    await closing
    await asyncio.gather(*answers)
    assert await small.truth.values(0) == list(range(9))


async def until_refused(far: Far) -> None:
    while True:
        await asyncio.sleep(0)
        await far.group.submit(Post(lane=5), lane=5)


async def test_what_is_not_finished_within_the_grace_is_told_so(small: Far) -> None:
    await small.truth.hold()
    flying = small.submit(Post(lane=0))
    await small.until_held()
    waiting = small.submit(Post(lane=0))
    await until(depth_of(small), 1, within=20)
    await small.group.close(0.01)
    answers = await asyncio.gather(flying, waiting, return_exceptions=True)
    assert [type(answer) for answer in answers] == [OutcomeUnknown, Unavailable]


async def test_a_thousand_submits_of_twenty_lanes_keep_their_order(far: Far) -> None:
    await far.all(Post(lane=number % 20, value=number) for number in range(1000))
    for lane in range(20):
        assert await far.truth.values(lane) == list(range(lane, 1000, 20))


@pytest.mark.parametrize("trouble", ["killed", "cut"])
async def test_every_caller_learns_the_truth_while_connections_die(far: Far, trouble: str) -> None:
    told: dict[uuid.UUID, str] = {}

    async def caller(lane: int) -> None:
        for value in range(60):
            post = Post(lane=lane, value=value)
            try:
                await far.group.submit(post, lane=lane)
                told[post.key] = "done"
            except OutcomeUnknown:
                told[post.key] = "unknown"
            except Unavailable:
                told[post.key] = "not done"

    callers = asyncio.gather(*(caller(lane) for lane in range(50)))
    rounds = 0
    while not callers.done():
        rounds += 1
        if trouble == "killed":
            await far.truth.kill()
        elif rounds % 3:
            words = [b"__asyncpg_stmt" if far.store.one_call else b"COMMIT"]
            far.network.cut_when = Cut(words, answered=rounds % 3 == 1)
        else:
            far.network.cut()
        # Some batches get through in between.
        batches = far.group.counters.batches
        while far.group.counters.batches < batches + 3 and not callers.done():
            await asyncio.sleep(0)
    await callers
    there = Counter(await far.truth.keys())
    assert rounds > 5
    # A kill may meet none of the commits of a transaction's own round trip.
    assert far.group.counters.unknown > 0 or (trouble == "killed" and "not done" in told.values())
    assert max(there.values()) == 1
    done = {key for key, word in told.items() if word == "done"}
    unknown = {key for key, word in told.items() if word == "unknown"}
    assert there.keys() - unknown == done
    assert len(done) > 1000
