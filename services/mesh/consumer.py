"""Consumes the events of one context: each has its effect once, whatever is delivered how often.

An event's id is written down in the transaction of its effect; the event is acknowledged after the commit.
What fails is tried again later while others go on, and is parked after some tries. What fails because some
service, the database or the bus is away is tried until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from uuid import UUID

from nats.aio.msg import Msg
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from services.mesh import faults, inbox, trace
from services.mesh.bus import BUS_ERRORS, Bus
from services.mesh.database import Database
from services.mesh.errors import DeadlineExceeded, SampanError, Unavailable
from services.mesh.inbox import Received
from services.mesh.metrics import Gauge
from services.mesh.pulling import Pull, pulling
from services.mesh.settings import MeshSettings
from services.mesh.subjects import stream_of

# What an event does, in the transaction that also writes its id. It calls nobody.
Effect = Callable[[AsyncConnection], Awaitable[None]]
# Learns what it needs, also of other services, outside of any transaction; returns the effect.
Handler = Callable[[Received], Awaitable[Effect]]

# Seconds in which more events gather while there are many, where they are handled together: each round costs
# three transactions, however many they are.
_GATHERING = 0.05
# What is under way or waits for its next try, at most.
_MAX_PENDING = 1000
# How often to look for what shall be replayed, and for ids that are too old, in seconds.
_REPLAY_SECONDS = 5.0
_PURGE_SECONDS = 60.0
_RETRY_SECONDS = 0.5
# What is being handled when the process is told to stop may take this long to end.
_DRAIN_SECONDS = 3.0
_PENDING = "Events that have not had their effect yet."
_PARKED = "Events that failed too often and wait for an operator."
# Failures that say nothing about the event.
_AWAY = (Unavailable, DeadlineExceeded)


async def nothing(_: AsyncConnection) -> None:
    """The effect of an event that has none."""


class Consumer:
    """One for each service and context it listens to, in each of its processes; they share the work.

    `handlers` maps subjects to what they do. Events are handled one after another in each process. Where the
    order matters, an effect compares versions: a second try or another process may come late.

    With `together`, what waits is handled at once and has its effects in one transaction, in order; if any of
    it fails, each is tried alone. For effects that lock rows in one order only, or none.
    """

    def __init__(
        self,
        service: str,
        context: str,
        handlers: Mapping[str, Handler],
        bus: Bus,
        database: Database,
        mesh: MeshSettings,
        log: FilteringBoundLogger,
        *,
        together: bool = False,
    ) -> None:
        self._service = service
        self._at_once = mesh.events_together if together else 1
        self._stream = stream_of(context)
        self._labels = (("stream", self._stream),)
        self._handlers = handlers
        self._bus = bus
        self._database = database
        self._mesh = mesh
        self._log = log
        # Whether some of what comes may have had its effect: so after a beginning, and as long as some has.
        self._doubts = True

    async def run(self) -> None:
        """Until cancelled; what is being handled then may end. Nothing that is away ends it."""
        while True:
            epoch = await self._bus.connected()
            try:
                await self._consume(epoch)
            except (*BUS_ERRORS, json.JSONDecodeError) as error:
                # No stream yet, or not any more: its owner makes it.
                self._log.info("consumer.waits", stream=self._stream, error=type(error).__name__)
            await asyncio.sleep(_RETRY_SECONDS)

    async def replay(self) -> None:
        """Tries parked events again when the operator asks, until cancelled."""
        while True:
            try:
                async with self._database.transaction() as connection:
                    events = await inbox.to_replay(connection, sorted(self._handlers), 1)
                for event in events:
                    await self._replay(event)
            except SampanError as error:
                events = []
                self._log.warning("replay.postponed", reason=error.reason)
            if not events:
                await asyncio.sleep(_REPLAY_SECONDS)

    async def purge(self) -> None:
        """Forgets ids of events that are too old to come again, until cancelled."""
        while True:
            try:
                while await self._purge() == inbox.PURGE_LIMIT:
                    pass
            except SampanError as error:
                self._log.warning("purge.postponed", reason=error.reason)
            await asyncio.sleep(_PURGE_SECONDS)

    async def observe(self) -> list[Gauge]:
        """How far behind it is. What is away is left out."""
        figures = []
        if self._bus.is_connected:
            with contextlib.suppress(*BUS_ERRORS):
                info = await self._bus.jetstream.consumer_info(self._stream, self._service)
                pending = (info.num_pending or 0) + (info.num_ack_pending or 0)
                figures.append(Gauge("sampan_consumer_pending", _PENDING, pending, self._labels))
        with contextlib.suppress(SampanError):
            async with self._database.reading() as connection:
                parked = await inbox.count_parked(connection)
            figures.append(Gauge("sampan_consumer_parked", _PARKED, parked, self._labels))
        return figures

    async def _purge(self) -> int:
        async with self._database.transaction() as connection:
            return await inbox.purge(connection, self._mesh.inbox_keep_days)

    async def _consume(self, epoch: int) -> None:
        """Handles what comes, as long as the connection is the same."""
        await self._bus.jetstream.add_consumer(self._stream, self._config())
        self._doubts = True
        lost = asyncio.ensure_future(self._bus.another(epoch))
        asking = pulling(
            self._bus,
            self._stream,
            self._service,
            most=self._at_once,
            seconds=self._mesh.event_pull_seconds,
        )
        try:
            async with asking as pull:
                while not lost.done():
                    messages = await self._next(pull, lost)
                    if messages:
                        await self._to_the_end(self._handle_all(messages))
                    if 1 < len(messages) < self._at_once:
                        await asyncio.sleep(_GATHERING)
        finally:
            lost.cancel()

    def _config(self) -> ConsumerConfig:
        return ConsumerConfig(
            name=self._service,
            durable_name=self._service,
            deliver_policy=DeliverPolicy.ALL,
            ack_policy=AckPolicy.EXPLICIT,
            ack_wait=self._mesh.event_ack_seconds,
            max_ack_pending=_MAX_PENDING,
            filter_subjects=sorted(self._handlers),
        )

    async def _next(self, pull: Pull, lost: asyncio.Future[None]) -> list[Msg]:
        """The next events; none when there is none for a while or the connection is another one."""
        asked = asyncio.ensure_future(pull.next())
        try:
            await asyncio.wait((asked, lost), return_when=asyncio.FIRST_COMPLETED)
            return asked.result() if asked.done() else []
        finally:
            asked.cancel()
            await asyncio.gather(asked, return_exceptions=True)

    async def _to_the_end(self, work: Awaitable[None]) -> None:
        """Lets work end, for a little, when this is cancelled meanwhile."""
        task = asyncio.ensure_future(work)
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            await asyncio.wait((task,), timeout=_DRAIN_SECONDS)
            task.cancel()
            raise

    async def _handle_all(self, messages: Sequence[Msg]) -> None:
        """Handles what came at once: together what can be, if that goes well, and the rest one by one."""
        async with self._in_hand(*messages):
            plain = [message for message in messages if _is_plain(message)]
            # By identity: messages compare all that they have.
            together = self._at_once > 1 and plain and await self._try_together(plain)
            done = set(map(id, plain)) if together else set()
            for message in messages:
                if id(message) not in done:
                    await self._handle(message)

    async def _try_together(self, messages: Sequence[Msg]) -> bool:
        """Acknowledges them when all have their effects. False: none has, and each is to be tried alone."""
        events = [event for event in map(received, messages) if event is not None]
        try:
            await self._apply_together(events)
        except _AWAY as error:
            self._log.warning("events.postponed", events=len(events), error=type(error).__name__)
            for message in messages:
                await message.nak(delay=self._wait(0))
        except Exception as error:
            # What it was is found out event by event.
            self._log.info("events.apart", events=len(events), error=type(error).__name__)
            return False
        else:
            for message in messages:
                await message.ack()
        return True

    async def _apply_together(self, events: Sequence[Received]) -> None:
        fresh = await self._fresh(events) if self._doubts else events
        async with asyncio.timeout(self._mesh.event_handle_seconds):
            effects = await _all(self._handlers[event.subject](event) for event in fresh)
        async with self._database.transaction() as connection:
            new = await inbox.record_all(connection, [event.id for event in fresh])
            self._doubts = len(new) < len(events)
            for event, effect in zip(fresh, effects, strict=True):
                if event.id in new:
                    # One that is there twice has its effect once.
                    new.discard(event.id)
                    await effect(connection)
            await faults.point("consumer.after_effect")
        await faults.point("consumer.after_commit")

    async def _fresh(self, events: Sequence[Received]) -> Sequence[Received]:
        """Those that have not had their effect yet."""
        async with self._database.reading() as connection:
            known = await inbox.recorded(connection, [event.id for event in events])
        return [event for event in events if event.id not in known]

    async def _handle(self, message: Msg) -> None:
        event = received(message)
        if event is None:
            self._log.error("event.malformed", stream=self._stream, sequence=message.metadata.sequence.stream)
            await message.term()
            return
        again = message.metadata.num_delivered - 1
        given = (message.headers or {}).get("traceparent", "")
        with trace.continued(
            given, f"{event.subject} process", trace.CONSUMER, {"messaging.system": "nats"}
        ) as span:
            async with self._in_hand(message):
                wait = await self._try(event, again=again)
            if span is not None:
                span.set_attribute("sampan.outcome", "done" if wait is None else "tried again")
        if wait is None:
            await message.ack()
        else:
            await message.nak(delay=wait)

    @asynccontextmanager
    async def _in_hand(self, *messages: Msg) -> AsyncIterator[None]:
        """Keeps events from being delivered again as long as this process lives and works on them."""
        telling = asyncio.ensure_future(self._tell(messages))
        try:
            yield
        finally:
            telling.cancel()

    async def _tell(self, messages: Sequence[Msg]) -> None:
        while True:
            await asyncio.sleep(self._mesh.event_ack_seconds / 3)
            for message in messages:
                if not message.is_acked:
                    with contextlib.suppress(*BUS_ERRORS):
                        await message.in_progress()

    async def _try(self, event: Received, *, again: int) -> float | None:
        """Has an event its effect, or parks it: None. Otherwise the seconds after which to try once more."""
        tries = 0
        try:
            if again:
                tries, error = await self._begin(event)
                if tries > self._mesh.event_tries:
                    await self._keep_failure(event, error or "Crashed", park=True)
                    return None
            await self._apply(event)
        except _AWAY as error:
            self._log.warning("event.postponed", event_id=str(event.id), error=type(error).__name__)
            if tries:
                await self._take_back(event)
            return self._wait(again)
        except Exception as error:
            return await self._failed(event, type(error).__name__, tries)
        return None

    async def _apply(self, event: Received) -> None:
        async with self._database.transaction() as connection:
            if await inbox.is_recorded(connection, event.id):
                return
        async with asyncio.timeout(self._mesh.event_handle_seconds):
            effect = await self._handlers[event.subject](event)
        async with self._database.transaction() as connection:
            if not await inbox.record(connection, event.id):
                return
            await effect(connection)
            await faults.point("consumer.after_effect")
        await faults.point("consumer.after_commit")

    async def _failed(self, event: Received, error: str, tries: int) -> float | None:
        """Writes a failure down; parks the event after the last one."""
        try:
            if not tries:
                tries, _ = await self._begin(event)
            park = tries >= self._mesh.event_tries
            await self._keep_failure(event, error, park=park)
        except Exception as trouble:
            # It could not be written down: the try did not count.
            self._log.warning("event.uncounted", event_id=str(event.id), error=type(trouble).__name__)
            return self._mesh.event_retry_ceiling_seconds
        return None if park else self._wait(tries - 1)

    async def _begin(self, event: Received) -> tuple[int, str]:
        async with self._database.transaction() as connection:
            if await inbox.is_recorded(connection, event.id):
                return 0, ""
            return await inbox.begin_try(connection, event)

    async def _take_back(self, event: Received) -> None:
        try:
            async with self._database.transaction() as connection:
                await inbox.take_back_try(connection, event.id)
        except SampanError as error:
            self._log.warning("try.counted", event_id=str(event.id), reason=error.reason)

    async def _keep_failure(self, event: Received, error: str, *, park: bool) -> None:
        async with self._database.transaction() as connection:
            await inbox.keep_failure(connection, event.id, error, park=park)
        self._log.warning(
            "event.parked" if park else "event.failed",
            event_id=str(event.id),
            subject=event.subject,
            error=error,
        )

    async def _replay(self, event: Received) -> None:
        try:
            await self._apply(event)
        except _AWAY:
            async with self._database.transaction() as connection:
                await inbox.ask_replay(connection, event.id)
            await asyncio.sleep(_REPLAY_SECONDS)
        except Exception as error:
            # It stays parked, whatever it was.
            await self._keep_failure(event, type(error).__name__, park=True)

    def _wait(self, failures: int) -> float:
        doubled = self._mesh.event_retry_first_seconds * 2.0 ** min(max(failures, 0), 20)
        return min(doubled, self._mesh.event_retry_ceiling_seconds)


async def _all(learning: Iterable[Awaitable[Effect]]) -> list[Effect]:
    """What all of them give, when all have ended; or else what the first one raised that failed."""
    found = await asyncio.gather(*learning, return_exceptions=True)
    effects = []
    for one in found:
        if isinstance(one, BaseException):
            raise one
        effects.append(one)
    return effects


def _is_plain(message: Msg) -> bool:
    """Whether it may be handled together with others: readable, for the first time, in no kept trace."""
    sampled = (message.headers or {}).get("traceparent", "").endswith("-01")
    return not sampled and message.metadata.num_delivered == 1 and received(message) is not None


def received(message: Msg) -> Received | None:
    """An event of a message; None when it is not one of ours."""
    headers = message.headers or {}
    try:
        return Received(
            id=UUID(headers["ce-id"]),
            subject=message.subject,
            aggregate_id=UUID(headers["ce-subject"]),
            version=int(headers["ce-aggregateversion"]),
            payload=message.data,
        )
    except (KeyError, ValueError):
        return None
