"""The database of one service: engine, pool, transactions, and driver errors turned into ours."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import asyncpg
from sqlalchemy import Engine, event
from sqlalchemy.engine import ExceptionContext
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, create_async_engine
from sqlalchemy.pool import QueuePool

from services.mesh import faults, trace
from services.mesh.errors import InvalidArgument, OutcomeUnknown, SampanError, Unavailable
from services.mesh.metrics import Gauge

# SQLSTATE classes that say the server or the way to it is in trouble, not the statement:
# connection exception, insufficient resources, operator intervention, system error.
_SERVER_TROUBLE = ("08", "53", "57", "58")
NOT_TEXT = "a text holds the character NUL, which cannot be stored"
# What the client's side says of it. The internal error is what asyncpg says when the server ended an idle
# connection, until it has seen the end of it.
_CLIENT_TROUBLE = (
    OSError,
    PoolTimeout,
    TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    InterfaceError,
)
# What waiting for a lock or for a slot ends with.
_TIMED_OUT = ("55P03", "57014")
# Serialization failure and deadlock: taken back as a whole, and another try may succeed.
_CONFLICT = ("40001", "40P01")
# Where a connection keeps what is to be done after the commit of the transaction that it is in.
_AFTER_COMMIT = "sampan.after_commit"
# As much of a statement as a span tells, in characters.
_STATEMENT = 1000


def sqlalchemy_url(url: str) -> str:
    """The URL with the driver that SQLAlchemy needs to be told."""
    return url.replace("postgresql://", "postgresql+asyncpg://", 1).replace(
        "postgres://", "postgresql+asyncpg://", 1
    )


def sqlstate(error: BaseException) -> str:
    """The SQLSTATE of an error or of what caused it, or the empty string."""
    seen: BaseException | None = error
    while seen is not None:
        state = getattr(seen, "sqlstate", None)
        if isinstance(state, str):
            return state
        seen = getattr(seen, "orig", None) or seen.__cause__
    return ""


def constraint(error: BaseException) -> str:
    """The name of the constraint that a statement broke, or the empty string."""
    seen: BaseException | None = error
    while seen is not None:
        name = getattr(seen, "constraint_name", None)
        if isinstance(name, str):
            return name
        seen = getattr(seen, "orig", None) or seen.__cause__
    return ""


def is_trouble(error: BaseException) -> bool:
    """Whether the database could not be reached or could not work, so that another try may succeed."""
    if isinstance(error, _CLIENT_TROUBLE):
        return True
    if isinstance(error, DBAPIError) and error.connection_invalidated:
        return True
    state = sqlstate(error)
    return state[:2] in _SERVER_TROUBLE or state in _TIMED_OUT


def is_conflict(error: BaseException) -> bool:
    """Whether others came between, so that nothing was done and another try may succeed."""
    return sqlstate(error) in _CONFLICT


def is_not_text(error: BaseException) -> bool:
    """Whether a text had a NUL: a valid protobuf string that PostgreSQL cannot keep."""
    return sqlstate(error) == "22021"


def after_commit(connection: AsyncConnection, hook: Callable[[], None]) -> None:
    """Has something done when the transaction that a connection is in has been committed, and only then."""
    connection.info[_AFTER_COMMIT].append(hook)


def _said_of(database: str, statement: str) -> dict[str, str]:
    return {
        "db.system.name": "postgresql",
        "db.namespace": database,
        # With placeholders: values are never in it.
        "db.query.text": statement[:_STATEMENT],
    }


def _trace_statements(engine: Engine, database: str) -> None:
    """Gives each statement a span, where the trace is kept."""

    @event.listens_for(engine, "before_cursor_execute")
    def begin(_c: object, _k: object, statement: str, _p: object, context: Any, _m: object) -> None:
        now = trace.here.get()
        if now is not None and context is not None:
            verb = statement.split(None, 1)[0].upper() if statement.strip() else "SQL"
            context.sampan_span = trace.below(now, verb, trace.CLIENT, _said_of(database, statement))

    @event.listens_for(engine, "after_cursor_execute")
    def end(_c: object, _k: object, _s: str, _p: object, context: Any, _m: object) -> None:
        span = getattr(context, "sampan_span", None)
        if span is not None:
            trace.end(span)

    @event.listens_for(engine, "handle_error")
    def fail(said: ExceptionContext) -> None:
        span = getattr(said.execution_context, "sampan_span", None)
        if span is not None:
            trace.end(span, sqlstate(said.original_exception) or type(said.original_exception).__name__)


def _pass_over_closed(engine: Engine) -> None:
    """Has a connection that is known to be closed replaced, not used: who comes first after the server was
    started anew is not told of it."""

    @event.listens_for(engine, "checkout")
    def check(connection: Any, _record: object, _proxy: object) -> None:
        if connection.driver_connection.is_closed():
            raise DisconnectionError


class Database:
    """Connections of one role to one database.

    `timeout` bounds, in seconds, connecting, waiting for a free connection and each statement. `name` is
    that of the service.
    """

    def __init__(self, url: str, *, pool: int, timeout: float, name: str) -> None:
        self._name = name
        self._engine = create_async_engine(
            sqlalchemy_url(url),
            pool_size=pool,
            max_overflow=0,
            pool_timeout=timeout,
            pool_use_lifo=True,
            connect_args={
                "timeout": timeout,
                "command_timeout": timeout,
                "server_settings": {"application_name": name},
            },
        )
        _trace_statements(self._engine.sync_engine, name)
        _pass_over_closed(self._engine.sync_engine)
        # The same connections; what only reads needs no BEGIN and no COMMIT.
        self._reader = self._engine.execution_options(isolation_level="AUTOCOMMIT")

    @asynccontextmanager
    async def transaction(self, step: str = "") -> AsyncIterator[AsyncConnection]:
        """A transaction: committed at the end of the block, rolled back when it raises.

        Raises Unavailable when the database cannot be reached, is in trouble or took it back because of
        others, OutcomeUnknown when it was in trouble during the commit, InvalidArgument when a text cannot be
        stored. A `step` names the fault points `<service>.<step>.before_commit` and
        `<service>.<step>.after_commit`.
        """
        hooks: list[Callable[[], None]] = []
        try:
            async with self._engine.connect() as connection:
                connection.info[_AFTER_COMMIT] = hooks
                yield connection
                if hooks:
                    await faults.point("outbox.before_commit")
                await self._commit(connection, f"{self._name}.{step}" if step else "")
        except SampanError:
            raise
        except Exception as error:
            if is_trouble(error) or is_conflict(error):
                raise Unavailable from error
            if is_not_text(error):
                raise InvalidArgument(NOT_TEXT) from error
            raise
        for hook in hooks:
            hook()

    async def _commit(self, connection: AsyncConnection, step: str) -> None:
        async def cut() -> None:
            raw = (await connection.get_raw_connection()).driver_connection
            if isinstance(raw, asyncpg.Connection):
                raw.terminate()

        if step:
            await faults.point(f"{step}.before_commit", cut)
        try:
            with trace.step("COMMIT", trace.CLIENT, _said_of(self._name, "COMMIT")):
                await connection.commit()
        except Exception as error:
            if is_trouble(error):
                raise OutcomeUnknown from error
            raise
        if step:
            await faults.point(f"{step}.after_commit", cut)

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """A connection on which each statement stands alone, one round trip for each. Raises Unavailable."""
        try:
            async with self._reader.connect() as connection:
                yield connection
        except Exception as error:
            if is_trouble(error):
                raise Unavailable from error
            raise

    async def observe(self) -> list[Gauge]:
        """How busy the pool is."""
        pool = self._engine.sync_engine.pool
        most, busy = (pool.size(), pool.checkedout()) if isinstance(pool, QueuePool) else (0, 0)
        return [
            Gauge("sampan_database_pool_size", "Connections to the database, at most.", most),
            Gauge("sampan_database_pool_in_use", "Connections that somebody works with.", busy),
        ]

    async def close(self) -> None:
        """Closes all connections."""
        await self._engine.dispose()
