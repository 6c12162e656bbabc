"""A Redis of a test's own, with the access rules of the stack, to be killed, frozen and started anew."""

from __future__ import annotations

import asyncio
import signal
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from services.mesh import liveness
from services.stack.home import Home
from services.stack.redis_part import redis_part, url
from services.stack.secrets import Secrets, complete
from tests.support.stack import free_port
from tests.support.waiting import until

HOST = "127.0.0.1"


class OwnRedis:
    """One server process and the passwords to it."""

    def __init__(self, folder: Path, users: tuple[str, ...]) -> None:
        home = Home(folder / "home")
        home.prepare()
        self.port = free_port()
        self.secrets = Secrets()
        complete(self.secrets, users)
        self.part = redis_part(home, self.secrets, self.port, {})
        self._process: subprocess.Popen[bytes] | None = None

    def url(self, user: str) -> str:
        """Where it is and how to enter."""
        return url(user, self.secrets, self.port)

    async def start(self) -> None:
        """Returns when it answers."""
        self.part.prepare()
        # Not by asyncio: uvloop forks, and in the child gRPC's fork handlers may abort or wait for ever.
        self._process = subprocess.Popen(self.part.command, cwd=self.part.folder, stdout=subprocess.DEVNULL)

        async def answers() -> bool:
            return await liveness.redis(HOST, self.port)

        await until(answers, True, within=30)

    async def kill(self) -> None:
        """As kill -9 does; returns when it is gone."""
        if self._process is not None:
            self._process.kill()
            await asyncio.to_thread(self._process.wait)

    def freeze(self, *, frozen: bool) -> None:
        """Stops it without closing anything, or lets it go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP if frozen else signal.SIGCONT)


@asynccontextmanager
async def own_redis(folder: Path, *users: str) -> AsyncIterator[OwnRedis]:
    """A running one, killed at the end."""
    server = OwnRedis(folder, users)
    await server.start()
    try:
        yield server
    finally:
        await server.kill()
