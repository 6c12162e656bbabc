"""Use cases of web: ask every part how it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from services.mesh.clock import Clock
from services.web.domain import Health

# Asks one part; True when it is well. Ends within its own time limit and does not raise.
Probe = Callable[[], Awaitable[bool]]


class WebService:
    """Health of the mesh. Answers are at most `max_age` seconds old; parts are asked at the same time."""

    def __init__(
        self,
        services: Mapping[str, Probe],
        servers: Mapping[str, Probe],
        *,
        version: str,
        max_age: float,
        clock: Clock,
    ) -> None:
        self.version = version
        self._services = services
        self._servers = servers
        self._max_age = max_age
        self._clock = clock
        self._asking: asyncio.Task[Health] | None = None
        self._health: Health | None = None
        self._asked_at = 0.0

    async def health(self) -> Health:
        """How all parts are."""
        if self._health is not None and self._clock() - self._asked_at <= self._max_age:
            return self._health
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())
        # Somebody who gives up must not end the question for the others.
        return await asyncio.shield(self._asking)

    async def services(self) -> dict[str, bool]:
        """Whether each service is up, by name."""
        health = await self.health()
        return {name: health.parts[name] for name in sorted(self._services)}

    async def _ask(self) -> Health:
        asked_at = self._clock()
        probes = {**self._services, **self._servers}
        answers = await asyncio.gather(*(probe() for probe in probes.values()))
        self._health = Health(dict(zip(probes, answers, strict=True)))
        self._asked_at = asked_at
        return self._health
