"""Group commit without a database: who shares a batch, who waits for whom, in every order of events."""

from __future__ import annotations

import asyncio
import itertools
import math
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from services.mesh import call
from services.mesh.errors import (
    DeadlineExceeded,
    Internal,
    NotFound,
    OutcomeUnknown,
    Overloaded,
    SampanError,
    Unavailable,
)
from services.mesh.fast_database import Lost
from services.mesh.gathering import SLICE, Gathering
from services.mesh.group_commit import GroupCommit, Limits
from services.mesh.load import Load
from services.mesh.policy import service_methods

Outcome = Callable[[Sequence[Any]], Exception | None]
FINE: Outcome = lambda _: None  # noqa: E731
# A loop that has time, however slow the machine is on which tests run.
IDLE: Callable[[], float] = lambda: 0.0  # noqa: E731


@dataclass(eq=False)
class Entry:
    """The nth of a lane."""

    lane: int
    number: int = 0
    poisoned: bool = False


@dataclass
class Memory:
    """Keeps entries in a list; each post waits for the gate, if there is one, and then for its outcome."""

    outcome: Outcome = FINE
    gate: asyncio.Event | None = None
    # An outcome that raises after the entries were kept: the answer to a commit was lost.
    kept_anyway: bool = False
    kept: list[Entry] = field(default_factory=list)
    batches: list[list[Entry]] = field(default_factory=list)
    flying: list[set[int]] = field(default_factory=list)

    async def post(self, batch: Sequence[Entry]) -> Sequence[int | SampanError]:
        lanes = {entry.lane for entry in batch}
        assert not any(lanes & others for others in self.flying), "a lane is in flight twice"
        self.flying.append(lanes)
        self.batches.append(list(batch))
        try:
            if self.gate is not None:
                await self.gate.wait()
            error = self.outcome(batch)
            if error is None or self.kept_anyway:
                self.kept.extend(batch)
            if error is not None:
                raise error
            return [entry.number for entry in batch]
        finally:
            self.flying.remove(lanes)

    async def find(self, entries: Sequence[Entry]) -> Sequence[int | None]:
        kept = set(self.kept)
        return [entry.number if entry in kept else None for entry in entries]


async def turns(count: int = 5) -> None:
    """Lets the loop turn."""
    for _ in range(count):
        await asyncio.sleep(0)


def submit(group: GroupCommit[Entry, int], entry: Entry) -> asyncio.Task[int]:
    return asyncio.ensure_future(group.submit(entry, lane=entry.lane))


def enter(
    group: GroupCommit[Entry, int], entry: Entry, ends: float = math.inf
) -> asyncio.Future[int | SampanError]:
    future: asyncio.Future[int | SampanError] = asyncio.get_running_loop().create_future()
    group.enter(entry, lane=entry.lane, ends=ends, answer=future)
    return future


async def answers_of(*tasks: asyncio.Task[int]) -> list[Any]:
    """What tasks gave; of errors their type."""
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    return [type(answer) if isinstance(answer, BaseException) else answer for answer in answers]


async def test_first_request_of_an_idle_service_goes_at_once_and_the_others_join_the_next() -> None:
    store = Memory(gate=asyncio.Event())
    group = GroupCommit(store, limits=Limits(parallel=1))
    first = submit(group, Entry(0))
    await turns()
    others = [submit(group, Entry(lane)) for lane in range(1, 4)]
    await turns()
    assert [len(batch) for batch in store.batches] == [1]
    assert store.gate is not None
    store.gate.set()
    await asyncio.gather(first, *others)
    assert [len(batch) for batch in store.batches] == [1, 3]


async def test_one_caller_after_another_never_waits_for_a_crowd() -> None:
    store = Memory()
    group = GroupCommit(store, limits=Limits(window=3600))
    for number in range(500):
        assert await group.submit(Entry(0, number), lane=0) == number
        assert group.counters.last_window == 0
    assert group.counters.batches == 500


async def test_callers_of_one_turn_share_a_batch() -> None:
    store = Memory()
    group = GroupCommit(store, limits=Limits())
    await asyncio.gather(*(submit(group, Entry(lane)) for lane in range(200)))
    assert [len(batch) for batch in store.batches] == [200]


async def test_a_crowd_goes_as_soon_as_nobody_is_missing() -> None:
    store = Memory()
    group = GroupCommit(store, limits=Limits(window=3600), load=IDLE, clock=lambda: 1.0)
    for number in range(1, 4):
        round_of = [submit(group, Entry(lane)) for lane in range(10)]
        await turns()
        assert [len(batch) for batch in store.batches] == [10] * number
        await asyncio.gather(*round_of)
    nine = [submit(group, Entry(lane)) for lane in range(9)]
    await turns()
    # The tenth may come yet.
    assert len(store.batches) == 3
    await asyncio.gather(*nine)
    assert len(store.batches) == 4


async def test_of_a_crowd_one_half_is_committed_while_the_other_comes() -> None:
    gates = [asyncio.Event() for _ in range(10)]
    flying: list[int] = []

    class Gated(Memory):
        async def post(self, batch: Sequence[Any]) -> Sequence[int | SampanError]:
            flying.append(len(batch))
            await gates[len(flying) - 1].wait()
            return await super().post(batch)

    group = GroupCommit(Gated(), limits=Limits(parallel=2, window=3600), load=IDLE, clock=lambda: 1.0)
    for number in range(2):
        # All at once, and then all again: so many there are, and so quickly they come.
        crowd = [submit(group, Entry(lane)) for lane in range(40)]
        gates[number].set()
        await asyncio.gather(*crowd)
    assert flying == [40, 40]
    one_half = [submit(group, Entry(lane)) for lane in range(20)]
    await turns()
    assert flying == [40, 40, 20]
    other_half = [submit(group, Entry(lane)) for lane in range(20, 39)]
    await turns()
    # Next to a batch in flight only half of them are worth another one.
    assert flying == [40, 40, 20]
    other_half.append(submit(group, Entry(39)))
    await turns()
    assert flying == [40, 40, 20, 20]
    gates[3].set()
    await asyncio.gather(*other_half)
    gates[2].set()
    await asyncio.gather(*one_half)


async def test_the_last_of_a_crowd_go_when_nobody_is_on_the_way_unless_some_wait_for_answers() -> None:
    store = Memory()
    # Their pace alone would never let them go.
    group = GroupCommit(store, limits=Limits(parallel=2, window=3600), load=IDLE, clock=lambda: 1.0)
    for _ in range(2):
        await asyncio.wait([enter(group, Entry(lane)) for lane in range(40)])
    few = [enter(group, Entry(lane)) for lane in range(5)]
    await turns()
    assert [len(batch) for batch in store.batches] == [40, 40]
    await asyncio.wait(few)
    assert [len(batch) for batch in store.batches] == [40, 40, 5]
    # Who was just answered may be back at once.
    waiting = [submit(group, Entry(lane)) for lane in range(5)]
    done, _ = await asyncio.wait(waiting, timeout=0.05)
    assert not done
    await group.close(grace=5)
    assert await answers_of(*waiting) == [0] * 5


def test_a_crowd_goes_in_parts_or_at_a_pace_as_long_as_it_is_one() -> None:
    gathering = Gathering(window=0.004, slow=0.032, enough=64, parts=2)
    assert not gathering.is_crowd
    now, arrived = 0.0, 0
    for _ in range(20):
        now, arrived = now + 0.01, arrived + 20
        gathering.departs(now, arrived, load=0.0)
        gathering.landed(now, size=20, others=12)
    assert gathering.is_crowd
    assert gathering.wanted(beside=True) == gathering.wanted(beside=False) == 16
    assert gathering.rest(now + 0.003) == pytest.approx(0.005)
    # Those on the way are not seen.
    gathering.landed(now, size=4, others=0)
    assert gathering.wanted(beside=True) == 16
    # One is left, who comes again and again.
    for _ in range(10):
        now, arrived = now + 0.008, arrived + 1
        gathering.departs(now, arrived, load=0.0)
        gathering.landed(now, size=1, others=0)
    assert not gathering.is_crowd
    assert gathering.wanted(beside=False) == 1


def test_a_busy_loop_waits_longer_and_for_all_and_still_not_for_nobody() -> None:
    gathering = Gathering(window=0.004, slow=0.032, enough=64, parts=2)
    now, arrived = 0.0, 0
    for _ in range(5):
        now, arrived = now + 0.01, arrived + 6
        # Most callers are on the way: six are seen at a time.
        gathering.departs(now, arrived, load=0.9)
        gathering.landed(now, size=6, others=5)
    assert gathering.is_busy
    assert gathering.is_crowd
    assert gathering.rest(now) == pytest.approx(0.032)
    assert gathering.wanted(beside=True) == 11
    gathering.departs(now, arrived, load=0.65)
    assert 0.008 < gathering.rest(now) < 0.032
    # What keeps the loop busy is something else, and one caller comes after another.
    for _ in range(20):
        now, arrived = now + 0.003, arrived + 1
        gathering.departs(now, arrived, load=1.0)
        gathering.landed(now + 0.002, size=1, others=0)
    assert gathering.wanted(beside=False) == 1


def test_load_is_the_share_of_time_with_a_processor() -> None:
    now, used = [0.0], [0.0]
    load = Load(lambda: used[0], lambda: now[0])
    now[0], used[0] = 0.1, 0.08
    assert load.share() == pytest.approx(0.8)
    # Too soon to say more.
    now[0], used[0] = 0.11, 0.081
    assert load.share() == pytest.approx(0.8)
    now[0] = 10.1
    assert load.share() == pytest.approx(0, abs=0.001)


async def test_of_a_crowd_that_is_slow_the_first_do_not_wait_long() -> None:
    store = Memory()
    group = GroupCommit(store, limits=Limits(parallel=2), load=IDLE)

    async def client(lane: int) -> None:
        for _ in range(50):
            await group.submit(Entry(lane), lane=lane)
            await asyncio.sleep(0.001 * (lane % 5))

    await asyncio.gather(*(client(lane) for lane in range(40)))
    assert group.counters.entries / group.counters.batches > 5
    assert group.counters.last_window < 0.008 + 50 * SLICE


async def test_who_cancels_its_future_is_left_out_of_the_batch() -> None:
    store = Memory(gate=asyncio.Event())
    group = GroupCommit(store, limits=Limits(parallel=1))
    first = enter(group, Entry(0, 1))
    await turns()
    gone = enter(group, Entry(0, 2))
    late = enter(group, Entry(0, 3), -math.inf)
    last = enter(group, Entry(0, 4, poisoned=True))
    gone.cancel()
    store.outcome = lambda batch: NotFound() if batch[0].poisoned else None
    assert store.gate is not None
    store.gate.set()
    await asyncio.wait((first, late, last))
    assert [entry.number for entry in store.kept] == [1]
    assert first.result() == 1
    assert [type(late.result()), type(last.result())] == [DeadlineExceeded, NotFound]
    assert group.counters.dropped == 2
    assert group.depth == 0


async def test_a_lane_in_flight_waits_while_others_go() -> None:
    store = Memory(gate=asyncio.Event())
    group = GroupCommit(store, limits=Limits(parallel=2, enough=2))
    first = submit(group, Entry(0, 1))
    await turns()
    second = submit(group, Entry(0, 2))
    others = [submit(group, Entry(lane)) for lane in (1, 2)]
    await turns()
    assert [[entry.lane for entry in batch] for batch in store.batches] == [[0], [1, 2]]
    assert store.gate is not None
    store.gate.set()
    await asyncio.gather(first, second, *others)
    assert [entry.number for entry in store.kept if entry.lane == 0] == [1, 2]


async def test_batches_keep_to_their_bytes() -> None:
    store = Memory()
    group = GroupCommit(store, limits=Limits(batch_bytes=10, parallel=1), size=lambda entry: entry.number)
    await asyncio.gather(*(submit(group, Entry(lane, size)) for lane, size in enumerate([4, 4, 4, 40, 1])))
    assert [[entry.number for entry in batch] for batch in store.batches] == [[4, 4], [4], [40], [1]]


async def test_a_queue_keeps_to_its_bytes() -> None:
    store = Memory(gate=asyncio.Event())
    group = GroupCommit(store, limits=Limits(queue_bytes=10, parallel=1), size=lambda entry: entry.number)
    first = submit(group, Entry(0, 10))
    await turns()
    second = submit(group, Entry(0, 9))
    await turns()
    assert await answers_of(submit(group, Entry(1, 2))) == [Overloaded]
    second.cancel()
    await turns()
    third = submit(group, Entry(1, 2))
    assert store.gate is not None
    store.gate.set()
    assert await answers_of(first, second, third) == [10, asyncio.CancelledError, 2]
    assert group.counters.refused == 1


async def test_the_deadline_of_the_current_call_counts() -> None:
    now = 0.0
    store = Memory(gate=asyncio.Event())
    group = GroupCommit(store, limits=Limits(parallel=1), clock=lambda: now)
    first = submit(group, Entry(0))
    await turns()
    methods = service_methods("sampan.identity.v1.IdentityService")
    mine = call.Call(methods["GetMe"], {})
    mine.ends = 5.0
    call.current.set(mine)
    second = submit(group, Entry(0))
    await turns()
    now = 6.0
    assert store.gate is not None
    store.gate.set()
    assert await answers_of(first, second) == [0, DeadlineExceeded]
    assert group.counters.dropped == 1


def lost(settle: Callable[[], Awaitable[None]] | None = None) -> Lost:
    """A lost connection whose end can be told."""

    async def at_once() -> None:
        return None

    return Lost(at_once if settle is None else settle)


def first_time(error: Exception) -> Outcome:
    """An error at the first post only."""
    times = itertools.count()
    return lambda _: error if next(times) == 0 else None


async def test_what_was_kept_though_its_answer_was_lost_is_found() -> None:
    store = Memory(first_time(lost()), kept_anyway=True)
    group = GroupCommit(store, limits=Limits())
    assert await answers_of(submit(group, Entry(0, 1)), submit(group, Entry(1, 2))) == [1, 2]
    assert [len(store.batches), len(store.kept)] == [1, 2]


async def test_what_certainly_was_not_kept_is_posted_again() -> None:
    store = Memory(first_time(lost()))
    group = GroupCommit(store, limits=Limits())
    assert await answers_of(submit(group, Entry(0, 1))) == [1]
    assert [len(store.batches), len(store.kept)] == [2, 1]


async def test_what_is_not_found_while_its_commit_may_come_is_never_posted_again() -> None:
    store = Memory(first_time(OutcomeUnknown()))
    group = GroupCommit(store, limits=Limits())
    assert await answers_of(submit(group, Entry(0, 1))) == [OutcomeUnknown]
    assert len(store.batches) == 1


async def test_an_end_that_cannot_be_told_is_outcome_unknown() -> None:
    asked = 0

    async def never() -> None:
        nonlocal asked
        asked += 1
        raise Unavailable

    store = Memory(first_time(lost(never)))
    group = GroupCommit(store, limits=Limits(patience=0.05))
    assert await answers_of(submit(group, Entry(0, 1))) == [OutcomeUnknown]
    assert asked > 1
    assert len(store.batches) == 1


async def test_connections_that_are_always_lost_end_the_tries() -> None:
    store = Memory(lambda _: lost())
    group = GroupCommit(store, limits=Limits(tries=3))
    assert await answers_of(submit(group, Entry(0, 1))) == [Unavailable]
    assert len(store.batches) == 3


async def test_an_error_that_a_store_raises_reaches_only_whom_it_concerns() -> None:
    store = Memory(lambda batch: NotFound() if any(entry.poisoned for entry in batch) else None)
    group = GroupCommit(store, limits=Limits())
    entries = [Entry(lane, lane, poisoned=lane == 3) for lane in range(8)]
    answers = await answers_of(*(submit(group, entry) for entry in entries))
    assert answers == [0, 1, 2, NotFound, 4, 5, 6, 7]


async def test_a_store_that_breaks_fails_its_batch_and_not_the_next() -> None:
    store = Memory(first_time(KeyError("a bug")))
    group = GroupCommit(store, limits=Limits())
    assert await answers_of(submit(group, Entry(0, 1)), submit(group, Entry(1, 2))) == [Internal, Internal]
    assert await answers_of(submit(group, Entry(0, 1))) == [1]


def test_a_crowd_opens_the_window_and_its_end_closes_it() -> None:
    gathering = Gathering(window=0.004, slow=0.032, enough=64, parts=1)
    now, arrived = 0.0, 0
    assert not gathering.opens(now, waiting=50)
    for _ in range(5):
        now, arrived = now + 0.002, arrived + 20
        gathering.departs(now, arrived, load=0.0)
        gathering.landed(now + 0.001, size=15, others=5)
    assert gathering.expected == 20
    assert gathering.opens(now + 0.001, waiting=3)
    # The first to come back: the others are on their way.
    assert gathering.opens(now + 0.002, waiting=1)
    # Nobody came for longer than the window: whoever comes now comes alone.
    assert not gathering.opens(now + 0.006, waiting=1)
    # Few and slow: waiting would gather nobody.
    for _ in range(10):
        now, arrived = now + 0.01, arrived + 2
        gathering.departs(now, arrived, load=0.0)
        gathering.landed(now, size=2, others=0)
    assert not gathering.opens(now, waiting=2)


async def of_a_crowd(limits: Limits) -> GroupCommit[Entry, int]:
    """What sixty callers made use of."""
    group = GroupCommit(Memory(), limits=limits)

    async def client(lane: int) -> None:
        for _ in range(100):
            await group.submit(Entry(lane), lane=lane)
            # Comes back after some turns of the loop: not all at once.
            await turns(1 + lane % 7)

    await asyncio.gather(*(client(lane) for lane in range(60)))
    assert group.counters.entries == 6000
    return group


async def test_under_load_batches_gather_more_than_came_during_a_commit() -> None:
    at_once = await of_a_crowd(Limits(parallel=1, window=0))
    gathered = await of_a_crowd(Limits(parallel=1))
    # A busy machine takes some for quiet in which it had no turn: what is waited for is still worth it.
    assert gathered.counters.batches < at_once.counters.batches / 1.5
    assert 0 < gathered.counters.last_window < 1


steps = st.lists(
    st.one_of(
        st.tuples(st.just("submit"), st.integers(0, 4), st.booleans()),
        st.tuples(st.just("cancel"), st.integers(0, 200), st.booleans()),
        st.tuples(st.just("turn"), st.integers(1, 4), st.booleans()),
        st.tuples(st.just("commit"), st.integers(0, 3), st.booleans()),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(steps, st.integers(1, 5), st.integers(1, 3), st.lists(st.booleans(), max_size=20))
def test_lanes_keep_their_order_whatever_happens(
    steps: list[tuple[str, int, bool]], batch: int, parallel: int, losses: list[bool]
) -> None:
    uvloop.run(scenario(steps, Limits(batch=batch, parallel=parallel, window=0.002, tries=50), losses))


async def scenario(steps: list[tuple[str, int, bool]], limits: Limits, losses: list[bool]) -> None:
    lose = [False] * 1000 + losses

    def outcome(entries: Sequence[Entry]) -> Exception | None:
        if any(entry.poisoned for entry in entries):
            return NotFound()
        return lost() if lose.pop() else None

    store = Memory(outcome, gate=asyncio.Event())
    group = GroupCommit(store, limits=limits)
    entries: list[Entry] = []
    tasks: list[asyncio.Task[int]] = []
    for what, number, flag in steps:
        if what == "submit":
            entries.append(Entry(number, len(entries), poisoned=flag and number == 0))
            tasks.append(submit(group, entries[-1]))
        elif what == "cancel" and tasks:
            tasks[number % len(tasks)].cancel()
        elif what == "turn":
            await turns(number)
        elif what == "commit" and store.gate is not None:
            store.gate.set()
            await turns(number)
            store.gate.clear()
    assert store.gate is not None
    store.gate.set()
    answers = await asyncio.wait_for(answers_of(*tasks), 20)
    await group.close(5)
    judge(store, entries, answers, limits)
    assert group.depth == 0


def judge(store: Memory, entries: list[Entry], answers: list[Any], limits: Limits) -> None:
    """Everybody has an answer, nothing is kept twice, and each lane is in the order of its submits."""
    assert len(set(map(id, store.kept))) == len(store.kept)
    kept = {entry.number for entry in store.kept}
    for entry, answer in zip(entries, answers, strict=True):
        if answer is NotFound:
            assert entry.poisoned
        else:
            assert answer is asyncio.CancelledError or (answer == entry.number and entry.number in kept)
    assert all(len(batch) <= limits.batch for batch in store.batches)
    for lane in range(5):
        numbers = [entry.number for entry in store.kept if entry.lane == lane]
        assert numbers == sorted(numbers)


async def test_who_is_cancelled_before_its_batch_leaves_nothing_behind() -> None:
    store = Memory(gate=asyncio.Event())
    group = GroupCommit(store, limits=Limits(parallel=1))
    first = submit(group, Entry(0))
    await turns()
    gone = [submit(group, Entry(lane)) for lane in range(1000)]
    await turns()
    for task in gone:
        task.cancel()
    await turns()
    assert (group.depth, group.counters.dropped) == (0, 1000)
    assert store.gate is not None
    store.gate.set()
    await first
    with pytest.raises(asyncio.CancelledError):
        await gone[0]
    assert len(store.batches) == 1
