"""The way to the other processes: core NATS, whether it works just now, and whether anybody is there."""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Iterator, Sequence
from uuid import UUID

from services.mesh import faults
from services.mesh.bus import BUS_ERRORS, Bus
from services.messaging.live import wire
from services.messaging.live.hub import Hub
from services.messaging.live.wire import Kind, News
from services.messaging.publishing import LiveEvent

# An echo of one's own every so many seconds; after so many without one the bus counts as away. While nobody
# is connected here, it need not be known at once.
_ECHO = 0.25
AWAY_AFTER = 0.75
_IDLE_ECHO = 1.0
_IDLE_AWAY_AFTER = 3.0
# Who says nothing for so many seconds is not there; and so long whoever begins takes others to be there.
_COMPANY = 10.0
# Of the events of so many seconds a process that has just come is told that they are there.
_LATELY = 3.0
# Longest that one round of publishing may take.
_TIMEOUT = 1.0
# Seconds between two rounds, in which what happens gathers: a message costs much more than what is in it.
_GATHER = 0.004
# Dialogs of which others will be told later that they have more events; and what waits to be sent, at most.
_MOST_UNTOLD = 20_000
_MOST_WAITING = 20_000


class Link:
    """Hands events and news to the other processes, and theirs to the hub. `is_away` says that it may not."""

    def __init__(self, bus: Bus | None) -> None:
        self.process = os.urandom(wire.PROCESS)
        self._subject = f"{wire.LIVE}.{self.process.hex()}"
        self._bus = bus
        self._events: list[LiveEvent] = []
        self._news: list[News] = []
        self._untold: dict[UUID, int] = {}
        self._something = asyncio.Event()
        self._echoed_at = float("-inf")
        # Until then somebody else is there, as far as is known.
        self._company_until = time.monotonic() + _COMPANY
        # What was told to nobody since a while, and before that.
        self._lately: dict[UUID, int] = {}
        self._earlier: dict[UUID, int] = {}
        self._turned_at = float("-inf")
        self._patience = AWAY_AFTER
        self._hub: Hub | None = None

    def connect(self, hub: Hub) -> None:
        """Says who hears what others tell."""
        self._hub = hub
        if self._bus is None:
            return
        self._bus.hear(f"{wire.LIVE}.*", self._heard)
        self._bus.hear(f"{wire.USER}.*", self._heard_news)
        self._bus.hear(f"{wire.ALIVE}.*", self._heard_alive)

    @property
    def is_away(self) -> bool:
        """Whether what is told may not arrive: here, or anywhere."""
        bus = self._bus
        return bus is None or not bus.is_connected or time.monotonic() - self._echoed_at > self._patience

    @property
    def epoch(self) -> int:
        """Counts connections: in between something may have got lost."""
        return self._bus.epoch if self._bus is not None else 0

    def tell(self, events: Sequence[LiveEvent]) -> None:
        """Hands events on, if there is anybody. Never waits, never raises."""
        now = time.monotonic()
        if now > self._company_until and not self.is_away:
            self._keep(events, now)
            return
        if self.is_away or len(self._events) > _MOST_WAITING:
            for event in events:
                if len(self._untold) < _MOST_UNTOLD or event.dialog_id in self._untold:
                    self._untold[event.dialog_id] = event.seq
        self._events.extend(events)
        del self._events[:-_MOST_WAITING]
        self._something.set()

    def _keep(self, events: Sequence[LiveEvent], now: float) -> None:
        """Remembers for a moment where there were events: somebody may have come who is not heard of yet."""
        if now - self._turned_at > _LATELY:
            self._turned_at = now
            self._earlier, self._lately = self._lately, {}
        for event in events:
            self._lately[event.dialog_id] = event.seq

    def tell_news(self, news: News) -> None:
        """Hands news on. Never waits, never raises."""
        if len(self._news) < _MOST_WAITING:
            self._news.append(news)
            self._something.set()

    async def run(self) -> None:
        """Publishes, until cancelled."""
        if self._bus is None:
            return
        async with asyncio.TaskGroup() as group:
            group.create_task(self._echo(self._bus))
            group.create_task(self._publish(self._bus))

    async def _echo(self, bus: Bus) -> None:
        while True:
            if bus.is_connected:
                with contextlib.suppress(*BUS_ERRORS):
                    async with asyncio.timeout(_TIMEOUT):
                        await bus.say(f"{wire.ALIVE}.{self.process.hex()}", self.process)
            needed = self._hub is not None and self._hub.people
            self._patience = AWAY_AFTER if needed else _IDLE_AWAY_AFTER
            await asyncio.sleep(_ECHO if needed else _IDLE_ECHO)

    async def _publish(self, bus: Bus) -> None:
        while True:
            await self._something.wait()
            self._something.clear()
            events, self._events = self._events, []
            news, self._news = self._news, []
            if self.is_away:
                # What happens now is found in the log by those who look.
                continue
            if self._untold:
                untold, self._untold = self._untold, {}
                news += [News(Kind.HEAD, dialog_id, (), seq) for dialog_id, seq in untold.items()]
            with contextlib.suppress(*BUS_ERRORS):
                async with asyncio.timeout(_TIMEOUT):
                    await self._say(bus, events, news)
            await asyncio.sleep(_GATHER)

    async def _say(self, bus: Bus, events: Sequence[LiveEvent], news: Sequence[News]) -> None:
        for message in wire.pack_events(self.process, events):
            if not await _is_lost():
                await bus.say(self._subject, message)
        for one in news:
            bucket = wire.bucket(one.user_ids[0] if one.user_ids else one.dialog_id)
            for message in wire.pack_news(self.process, (one,)):
                if not await _is_lost():
                    await bus.say(f"{wire.USER}.{bucket}", message)

    def _heard(self, data: bytes) -> None:
        if self._hub is not None and not data.startswith(self.process):
            with contextlib.suppress(wire.Malformed):
                self._hub.hear_all(wire.unpack_events(data))

    def _heard_news(self, data: bytes) -> None:
        if self._hub is not None and not data.startswith(self.process):
            with contextlib.suppress(wire.Malformed):
                self._hub.hear_news(wire.unpack_news(data))

    def _heard_alive(self, data: bytes) -> None:
        now = time.monotonic()
        if data != self.process:
            if now > self._company_until:
                self._untold.update(self._earlier | self._lately)
                self._earlier, self._lately = {}, {}
                self._something.set()
            self._company_until = now + _COMPANY
            return
        back = self.is_away
        self._echoed_at = now
        if back and self._untold:
            self._something.set()


async def _is_lost() -> bool:
    """Whether a test wants a message to get lost: `raise` at this point."""
    try:
        await faults.point("messaging.live.publish")
    except faults.FaultRaised:
        return True
    return False


def batches(found: Sequence[UUID], size: int) -> Iterator[Sequence[UUID]]:
    """Ids, some at a time."""
    for at in range(0, len(found), size):
        yield found[at : at + size]
