"""How people are, in Redis: leases of devices, what was told of them, when they were last seen."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from structlog.typing import FilteringBoundLogger

from services.mesh.breaker import Breaker
from services.mesh.errors import RequestIdReused, Unavailable
from services.mesh.idempotency import Key
from services.presence import scripts
from services.presence.domain import Change, State, Status
from services.presence.scripts import Script
from services.presence.settings import PresenceSettings

# Leases that one run of a script takes: others wait for Redis that long, about 3 ms.
_CHUNK = 500
_DAY = 86_400
# Fields of a change in what a sweep answers.
_CHANGE = 5

Answer = list[bytes | int]


@dataclass(frozen=True, slots=True)
class Device:
    """Somebody's device, as a process that has its stream calls it."""

    user_id: UUID
    name: str


@dataclass(frozen=True, slots=True)
class Swept:
    """How many were looked at, when the next are due in seconds, and changes that are now the caller's."""

    looked_at: int
    due_in: float
    changes: list[Change]


class Leases:
    """All methods raise Unavailable when Redis does not answer in time. `clock` is monotonic."""

    def __init__(
        self, settings: PresenceSettings, clock: Callable[[], float], log: FilteringBoundLogger
    ) -> None:
        self._timeout = settings.redis_timeout
        pool = BlockingConnectionPool.from_url(
            settings.redis_url.get_secret_value(),
            max_connections=settings.redis_pool,
            timeout=self._timeout,
            # The client does not see that an idle connection was closed, until it is used.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            socket_timeout=self._timeout,
            socket_connect_timeout=self._timeout,
        )
        self._redis: Redis = Redis.from_pool(pool)
        self._breaker = Breaker(clock)
        self._log = log
        self._lost = False
        self._keep = settings.last_seen_days * _DAY * 1000
        self._linger = _milliseconds(settings.linger_seconds)
        self._change = _milliseconds(settings.change_seconds)
        self._claim = _milliseconds(settings.claim_seconds)
        self._grace = _milliseconds(settings.away_grace_seconds)
        self._set_keep = settings.set_keep_seconds * 1000
        self._batch = settings.sweep_batch

    async def renew(self, process: str, devices: Sequence[Device], seconds: int) -> int:
        """Devices are there for so many seconds; returns how many are new."""
        found = await self._run_chunks(scripts.RENEW, (seconds * 1000, self._keep, process), devices)
        return sum(int(new) for new in found)

    async def end(self, process: str, devices: Sequence[Device]) -> None:
        """Devices are gone, if they do not come back at once. Ending what is not there changes nothing."""
        await self._run_chunks(scripts.END, (self._linger, self._keep, process), devices)

    async def set_status(self, user_id: UUID, status: Status, device: str, key: Key | None) -> State:
        """Says how somebody is on a device, or on all of theirs; returns how they are then.

        Raises RequestIdReused. An equal request is answered alike and has no second effect.
        """
        kept = f"{scripts.SET}{key.caller}:{key.request_id}" if key else scripts.SET
        arguments = (
            str(user_id),
            status.value,
            device,
            self._grace,
            self._keep,
            key.request_hash.hex() if key else "",
            self._set_keep,
        )
        answer = await self._run(scripts.SET_STATUS, arguments, kept)
        if not answer:
            raise RequestIdReused
        return _state(answer[0], answer[1])

    async def states(self, users: Sequence[UUID]) -> dict[UUID, State]:
        """How people are; those of whom nothing is known are offline."""
        if not users:
            return {}
        answer = await self._run(scripts.STATES, [str(user) for user in users])
        return {user: _state(*answer[2 * at : 2 * at + 2]) for at, user in enumerate(users)}

    async def sweep(self) -> Swept:
        """Looks at whoever is due. A change is claimed for a while, by one process of all."""
        answer = await self._run(scripts.SWEEP, (self._batch, self._change, self._claim))
        due_in = int(answer[1]) / 1000 if int(answer[1]) >= 0 else math.inf
        parts = answer[2:]
        found = [_changed(parts[at : at + _CHANGE]) for at in range(0, len(parts), _CHANGE)]
        return Swept(int(answer[0]), due_in, found)

    async def told(self, changes: Iterable[Change]) -> None:
        """These changes have been told."""
        arguments = [
            part for one in changes for part in (str(one.user_id), one.state.status.value, str(one.turn))
        ]
        if arguments:
            await self._run(scripts.TOLD, arguments)

    async def retell(self, user_id: UUID, after: float) -> None:
        """In `after` seconds has everybody told anew how somebody is."""
        await self._run(scripts.RETELL, (str(user_id), _milliseconds(after)))

    async def close(self) -> None:
        """Closes all connections."""
        await self._redis.aclose()

    async def _run(self, script: Script, arguments: Sequence[str | int], *keys: str) -> Answer:
        names = (scripts.DUE, *keys)
        with self._asking():
            async with asyncio.timeout(self._timeout):
                try:
                    answer: Answer = await self._redis.evalsha(script.id, len(names), *names, *arguments)
                except NoScriptError:
                    answer = await self._redis.eval(script.text, len(names), *names, *arguments)
        return answer

    async def _run_chunks(
        self, script: Script, head: tuple[str | int, ...], devices: Sequence[Device]
    ) -> list[int]:
        """Runs a script for all devices, in one message to Redis."""
        pairs = [part for one in devices for part in (str(one.user_id), one.name)]
        chunks = [(*head, *pairs[at : at + 2 * _CHUNK]) for at in range(0, len(pairs), 2 * _CHUNK)]
        with self._asking():
            async with asyncio.timeout(self._timeout):
                try:
                    return await self._send("EVALSHA", script.id, chunks)
                except NoScriptError:
                    # Redis was started anew: none of them has run.
                    return await self._send("EVAL", script.text, chunks)

    async def _send(self, command: str, script: str, chunks: list[tuple[str | int, ...]]) -> list[int]:
        async with self._redis.pipeline(transaction=False) as pipe:
            for chunk in chunks:
                pipe.execute_command(command, script, 1, scripts.DUE, *chunk)
            found: list[int] = await pipe.execute()
        return found

    @contextmanager
    def _asking(self) -> Iterator[None]:
        self._breaker.enter()
        task = asyncio.current_task()
        cancelled = task.cancelling() if task else 0
        try:
            yield
        except (RedisError, OSError, TimeoutError) as error:
            self._breaker.failed()
            if not self._lost:
                self._lost = True
                self._log.warning("leases.lost", error=type(error).__name__)
            raise Unavailable from error
        finally:
            # The client now and then swallows a cancellation, or ends with an error of its own instead.
            if task and task.cancelling() > cancelled:
                raise asyncio.CancelledError
        self._breaker.succeeded()
        if self._lost:
            self._lost = False
            self._log.info("leases.found")


def _milliseconds(seconds: float) -> int:
    return round(seconds * 1000)


def _text(part: bytes | int) -> str:
    return part.decode() if isinstance(part, bytes) else str(part)


def _state(status: bytes | int, seen: bytes | int) -> State:
    at = datetime.fromtimestamp(float(seen) / 1000, UTC) if seen else None
    return State(Status(_text(status)), at)


def _changed(parts: Answer) -> Change:
    user, status, seen, told, turn = parts
    return Change(UUID(_text(user)), _state(status, seen), not told, int(turn))
