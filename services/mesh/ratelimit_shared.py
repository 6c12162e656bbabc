"""Token buckets that all replicas of a service share: kept in Redis, leased from there in blocks."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import NoScriptError, RedisError
from structlog.typing import FilteringBoundLogger

from services.mesh.errors import RateLimited
from services.mesh.ratelimit import Limiter

# What is not used of a block within this many seconds is forfeited; the bucket makes new ones all the time.
LEASE_SECONDS = 5.0
# A refusal is repeated without asking for this long at most: Redis may have lost its buckets meanwhile.
REFUSAL_SECONDS = 1.0
# Between tries to find Redis again, in seconds: the first at once, then longer and longer.
_FIRST_RETRY = 0.02
_LAST_RETRY = 1.0
# How long looking for Redis may take when nobody waits for it.
_PATIENCE = 2.0
# The most that one message to Redis carries.
_BATCH = 500

# KEYS: the bucket. ARGV: its size, tokens a second, how many are wanted.
# Answers how many were given and, when fewer than wanted, in how many seconds there is one more.
_SCRIPT = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local size, rate, wanted = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local tokens = size
local kept = redis.call('HMGET', KEYS[1], 'tokens', 'at')
if kept[1] then
  tokens = math.min(size, kept[1] + math.max(0, now - kept[2]) * rate)
end
local given = math.min(wanted, math.floor(tokens))
tokens = tokens - given
if given > 0 then
  redis.call('HSET', KEYS[1], 'tokens', string.format('%.9f', tokens), 'at', string.format('%.6f', now))
  redis.call('PEXPIRE', KEYS[1], math.ceil((size - tokens) / rate * 1000) + 1000)
end
local wait = 0
if given < wanted then wait = (1 - tokens) / rate end
return {given, string.format('%.6f', wait)}
"""
_SCRIPT_ID = hashlib.sha1(_SCRIPT.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class _Limit:
    """One bucket in Redis. `rate` in tokens a second; `block` is how many are leased at a time."""

    key: str
    size: float
    rate: float

    @property
    def block(self) -> int:
        """A twentieth of the bucket, but no more than come back in a second: one below 120 a minute."""
        return max(1, int(min(self.size / 20, self.rate)))


class _Lease:
    """What this replica holds of one bucket. Times of the limiter's clock."""

    __slots__ = ("asking", "at", "free_at", "refuse_until", "tokens", "until", "waiting")

    def __init__(self) -> None:
        self.tokens = 0
        self.at = self.until = self.free_at = self.refuse_until = 0.0
        self.waiting = 0
        self.asking: asyncio.Task[None] | None = None


class SharedRateLimiter:
    """A limit is one for all replicas as long as Redis answers; while it does not, `local` counts alone.

    A call waits for Redis at most about `timeout` seconds, and after the first failure no call waits until
    Redis has been found again. At most `capacity` leases are kept; over it the half used longest ago goes.
    """

    def __init__(
        self,
        url: str,
        service: str,
        local: Limiter,
        clock: Callable[[], float],
        log: FilteringBoundLogger,
        *,
        scale: float = 1.0,
        timeout: float = 0.05,
        capacity: int = 100_000,
    ) -> None:
        self._redis: Redis = Redis.from_url(
            url, retry=Retry(NoBackoff(), 0), socket_timeout=_PATIENCE, socket_connect_timeout=_PATIENCE
        )
        self._prefix = f"ratelimit:{service}:"
        self._local = local
        self._clock = clock
        self._log = log
        self._scale = scale
        self._timeout = timeout
        self._capacity = capacity
        self._leases: dict[tuple[str, str], _Lease] = {}
        self._queue: list[tuple[_Limit, int, asyncio.Future[tuple[int, float]]]] = []
        self._sender: asyncio.Task[None] | None = None
        self._searching: asyncio.Task[None] | None = None

    @property
    def away(self) -> bool:
        """Whether Redis is known not to answer."""
        return self._searching is not None

    def take(self, name: str, key: str, calls: int, seconds: float) -> Awaitable[None] | None:
        """As Limiter.take says."""
        if self._searching is not None:
            return self._local.take(name, key, calls, seconds)
        now = self._clock()
        lease = self._leases.get((name, key))
        if lease is None:
            if len(self._leases) >= self._capacity:
                self._forget()
            lease = self._leases[(name, key)] = _Lease()
        lease.at = now
        if self._has_token(lease, calls, now):
            return None
        return self._wait(lease, name, key, calls, seconds)

    async def start(self) -> None:
        """Looks for Redis, so that the first call finds it connected. Does not raise."""
        try:
            async with asyncio.timeout(_PATIENCE):
                await self._probe()
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)

    async def close(self) -> None:
        """Ends the connection. Leases are left to expire."""
        tasks = [task for task in (self._sender, self._searching) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._redis.aclose()

    def _has_token(self, lease: _Lease, calls: int, now: float) -> bool:
        """Takes a token that is at hand. Raises RateLimited when there surely is none anywhere."""
        if lease.tokens > 0 and now < lease.until:
            lease.tokens -= 1
            return True
        if now < lease.refuse_until:
            raise RateLimited(calls=int(max(1.0, calls * self._scale)), seconds=lease.free_at - now)
        return False

    async def _wait(self, lease: _Lease, name: str, key: str, calls: int, seconds: float) -> None:
        size = max(1.0, calls * self._scale)
        limit = _Limit(f"{self._prefix}{name}:{key}", size, size / seconds)
        lease.waiting += 1
        try:
            while self._searching is None:
                if self._has_token(lease, calls, self._clock()):
                    return
                if lease.asking is None:
                    lease.asking = asyncio.create_task(self._fill(lease, limit))
                # Whoever gives up waiting must not end the question of the others.
                await asyncio.shield(lease.asking)
        finally:
            lease.waiting -= 1
        alone = self._local.take(name, key, calls, seconds)
        if alone is not None:
            await alone

    async def _fill(self, lease: _Lease, limit: _Limit) -> None:
        """One question to Redis on behalf of all that wait for this bucket. Does not raise."""
        wanted = max(limit.block, lease.waiting)
        answer: asyncio.Future[tuple[int, float]] = asyncio.get_running_loop().create_future()
        self._queue.append((limit, wanted, answer))
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())
        try:
            given, wait = await answer
        except (RedisError, OSError, TimeoutError):
            return
        finally:
            lease.asking = None
        now = self._clock()
        lease.tokens = given + (lease.tokens if now < lease.until else 0)
        lease.until = now + LEASE_SECONDS
        if given < wanted:
            lease.free_at = now + wait
            lease.refuse_until = now + min(wait, REFUSAL_SECONDS)

    async def _send(self) -> None:
        """Takes what has gathered to Redis in one go, until nothing is left."""
        batch: list[tuple[_Limit, int, asyncio.Future[tuple[int, float]]]] = []
        try:
            while self._queue:
                batch, self._queue = self._queue[:_BATCH], self._queue[_BATCH:]
                async with asyncio.timeout(self._timeout):
                    answers = await self._ask([(limit, wanted) for limit, wanted, _ in batch])
                for (_, _, future), answer in zip(batch, answers, strict=True):
                    if not future.done():
                        future.set_result(answer)
        except (RedisError, OSError, TimeoutError) as error:
            self._lose(error)
            lost, self._queue = [*batch, *self._queue], []
            for _, _, future in lost:
                if not future.done():
                    future.set_exception(TimeoutError())
        finally:
            self._sender = None

    async def _ask(self, questions: list[tuple[_Limit, int]]) -> list[tuple[int, float]]:
        """Runs the script once for each question. Raises RedisError or OSError."""
        try:
            found = await self._run("EVALSHA", _SCRIPT_ID, questions)
        except NoScriptError:
            # Redis was started anew: none of them has run.
            found = await self._run("EVAL", _SCRIPT, questions)
        return [(int(given), float(wait)) for given, wait in found]

    async def _run(
        self, command: str, script: str, questions: list[tuple[_Limit, int]]
    ) -> list[tuple[int, bytes]]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for limit, wanted in questions:
                pipe.execute_command(command, script, 1, limit.key, limit.size, limit.rate, wanted)
            found: list[tuple[int, bytes]] = await pipe.execute()
        return found

    async def _probe(self) -> None:
        await self._ask([(_Limit(f"{self._prefix}probe", 1.0, 1.0), 0)])

    def _lose(self, error: Exception) -> None:
        if self._searching is None:
            self._log.warning("ratelimit.alone", error=type(error).__name__)
            self._searching = asyncio.create_task(self._search())

    async def _search(self) -> None:
        """Tries until Redis answers again."""
        delay = _FIRST_RETRY
        while True:
            await asyncio.sleep(delay)
            try:
                async with asyncio.timeout(_PATIENCE):
                    # A late answer on the old connection would be taken for that of the next question.
                    await self._redis.connection_pool.disconnect()
                    await self._probe()
            except (RedisError, OSError, TimeoutError):
                delay = min(_LAST_RETRY, delay * 2)
                continue
            self._searching = None
            self._log.info("ratelimit.shared")
            return

    def _forget(self) -> None:
        """A flood of new keys must not grow memory."""
        by_age = sorted(self._leases.items(), key=lambda item: item[1].at)
        for key, _ in by_age[: self._capacity // 2]:
            del self._leases[key]
