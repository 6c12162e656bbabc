"""A database on asyncpg itself, for hot paths: few connections, few round trips, and no doubt about a commit.

SQLAlchemy costs more than the statement does where one round trip carries a whole batch. Values pass as
asyncpg has them: UUIDs are UUIDs, JSON is text that nobody parses.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import asyncpg

from services.mesh.database import is_trouble, sqlstate
from services.mesh.errors import Internal, OutcomeUnknown, SampanError, Unavailable
from services.mesh.metrics import Gauge

# An ended backend is found within 100 ms, but it may have a commit to finish first.
_END_BACKEND = """
SELECT pg_terminate_backend(pid, $3) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2
"""
_WHO_AM_I = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"


@dataclass(frozen=True, slots=True)
class Backend:
    """A server process that works for one connection. Its start tells it from a later one with its pid."""

    pid: int
    started: datetime


@dataclass(frozen=True, slots=True)
class _Link:
    connection: asyncpg.Connection[Any]
    backend: Backend


class Lost(OutcomeUnknown):
    """The connection was lost while a commit was under way. `settle` ends the doubt, but tells no outcome.

    After it, what was lost is either committed and visible, or never will be: so what is not found then was
    not done. Raises Unavailable when it cannot say so.
    """

    def __init__(self, settle: Callable[[], Awaitable[None]]) -> None:
        super().__init__()
        self.settle = settle


class FastDatabase:
    """Connections of one role to one database, at most `pool`; they are made when needed, and made again.

    The server, and whoever reads our figures, knows them by `name`.

    `timeout` bounds, in seconds, connecting, waiting for a free connection and each statement. It cannot go
    through a pooler in transaction mode: it must know the server process of each connection.

    A lost connection does not end its server process, which may still be about to commit. So the process is
    remembered, and before anything else is done here it is ended and seen gone.
    """

    def __init__(self, url: str, *, pool: int, timeout: float, name: str) -> None:
        self._url = url
        self._timeout = timeout
        self._name = name
        self._size, self._busy = pool, 0
        self._slots = asyncio.Semaphore(pool)
        self._idle: list[_Link] = []
        self._doubtful: set[Backend] = set()
        self._closed = False

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[asyncpg.Connection[Any]]:
        """A transaction: committed at the end of the block, rolled back when it raises.

        A connection that is lost before the commit is sent is Unavailable: nothing was done. During the
        commit it is Lost. What the server says against a statement is raised as it is.
        """
        async with self._slot():
            link = await self._link()
            try:
                await link.connection.execute("BEGIN")
                yield link.connection
            except BaseException as error:
                await self._roll_back(link, error)
                raise Unavailable from error  # unless _roll_back raised what says more
            await self._last_word(link, self._commit(link.connection))

    async def call(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """One statement that changes something, and its commit, in one round trip.

        Since the commit is part of it, a connection that is lost meanwhile is always Lost.
        """
        async with self._slot():
            link = await self._link()
            rows: list[asyncpg.Record] = await self._last_word(
                link, link.connection.fetch(statement, *values)
            )
            return rows

    async def fetch(self, statement: str, *values: Any) -> list[asyncpg.Record]:
        """One statement that only reads. Raises Unavailable."""
        async with self._slot():
            link = await self._link()
            try:
                rows = await link.connection.fetch(statement, *values)
            except BaseException as error:
                self._keep(link, if_sound=_refused(error))
                if isinstance(error, Exception) and is_trouble(error):
                    raise Unavailable from error
                raise
            self._keep(link, if_sound=True)
            return rows

    async def settle(self) -> None:
        """Returns when all that was lost is either committed or never will be. Raises Unavailable."""
        if self._doubtful:
            async with self._slot():
                self._keep(await self._link(), if_sound=True)

    async def observe(self) -> list[Gauge]:
        """How busy the pool is."""
        labels = (("pool", self._name),)
        return [
            Gauge("sampan_fast_pool_size", "Connections of a hot path, at most.", self._size, labels),
            Gauge("sampan_fast_pool_in_use", "Those that somebody works with.", self._busy, labels),
        ]

    async def close(self) -> None:
        """Closes all connections; those in use are closed when they are given back."""
        self._closed = True
        links, self._idle = self._idle, []
        for link in links:
            link.connection.terminate()

    async def _commit(self, connection: asyncpg.Connection[Any]) -> None:
        # A transaction whose statement failed is "committed" as a ROLLBACK, without an error.
        if await connection.execute("COMMIT") != "COMMIT":
            raise Internal

    async def _last_word(self, link: _Link, statement: Awaitable[Any]) -> Any:
        """What is sent last; when the server's answer to it is missing, nobody knows the outcome."""
        try:
            answer = await statement
        except BaseException as error:
            known = _refused(error) or isinstance(error, SampanError)
            if not known:
                self._doubtful.add(link.backend)
                self._drop_idle()
            self._keep(link, if_sound=known)
            if known and is_trouble(error):
                raise Unavailable from error
            if known or not isinstance(error, Exception):
                raise
            raise Lost(self.settle) from error
        self._keep(link, if_sound=True)
        return answer

    async def _roll_back(self, link: _Link, error: BaseException) -> None:
        """Takes back what was not committed. Raises `error` when it says more than Unavailable."""
        sound = not isinstance(error, asyncio.CancelledError) and not link.connection.is_closed()
        if sound:
            try:
                await link.connection.execute("ROLLBACK")
            except Exception:
                sound = False
        self._keep(link, if_sound=sound)
        if isinstance(error, SampanError) or not is_trouble(error):
            raise error

    @asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        if self._slots.locked():
            try:
                async with asyncio.timeout(self._timeout):
                    await self._slots.acquire()
            except TimeoutError as error:
                raise Unavailable from error
        else:
            await self._slots.acquire()
        self._busy += 1
        try:
            yield
        finally:
            self._busy -= 1
            self._slots.release()

    async def _link(self) -> _Link:
        """A connection that works as far as is known, after all doubt has been ended."""
        if self._closed:
            raise Unavailable
        while self._idle:
            link = self._idle.pop()
            if not link.connection.is_closed():
                break
        else:
            link = await self._connect()
        if self._doubtful:
            await self._end_doubt(link)
        return link

    async def _connect(self) -> _Link:
        try:
            async with asyncio.timeout(self._timeout):
                connection = await asyncpg.connect(
                    self._url,
                    timeout=self._timeout,
                    command_timeout=self._timeout,
                    # Statements here are few and stay.
                    max_cached_statement_lifetime=0,
                    server_settings={"application_name": self._name, "jit": "off"},
                )
                try:
                    backend = await _backend(connection)
                except BaseException:
                    connection.terminate()
                    raise
        except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
            raise Unavailable from error
        except ValueError:
            # Its text may hold a part of the URL, and so of the password.
            raise Internal from None
        return _Link(connection, backend)

    async def _end_doubt(self, link: _Link) -> None:
        """Ends the server processes of lost connections. A process that is gone has no commit to come."""
        patience = max(1, int(self._timeout * 500))
        try:
            for backend in tuple(self._doubtful):
                gone = await link.connection.fetchval(_END_BACKEND, backend.pid, backend.started, patience)
                # No row: it was gone already.
                if gone is not False:
                    self._doubtful.discard(backend)
        except BaseException as error:
            link.connection.terminate()
            if isinstance(error, Exception):
                raise Unavailable from error
            raise
        if self._doubtful:
            self._keep(link, if_sound=True)
            raise Unavailable

    def _keep(self, link: _Link, *, if_sound: bool) -> None:
        connection = link.connection
        if (
            if_sound
            and not self._closed
            and not connection.is_closed()
            and not connection.is_in_transaction()
        ):
            self._idle.append(link)
        else:
            connection.terminate()

    def _drop_idle(self) -> None:
        """After a loss the others are no better: a server that went took them along."""
        links, self._idle = self._idle, []
        for link in links:
            link.connection.terminate()


async def _backend(connection: asyncpg.Connection[Any]) -> Backend:
    row = await connection.fetchrow(_WHO_AM_I)
    if row is None:
        raise asyncpg.InterfaceError("the connection has no server process")
    return Backend(row[0], row[1])


def _refused(error: BaseException) -> bool:
    """Whether the server, still there, or the driver before it sent anything, said no: nothing was done."""
    if not isinstance(error, asyncpg.PostgresError):
        return False
    severity = getattr(error, "severity_en", None)
    return severity == "ERROR" or (severity is None and sqlstate(error)[:2] == "22")
