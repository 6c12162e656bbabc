"""Takes the events of one database to JetStream: one relay at a time, in order, and never loses any.

Whoever holds the database's advisory lock publishes; the others stand by. A row counts as published when
JetStream has acknowledged it. Dying in between publishes it once more under the same `Nats-Msg-Id`; whoever
consumes keeps ids, so that its effect stays one. The lock and the work share a connection: who loses one
loses the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Protocol

import asyncpg
from nats.js.api import DiscardPolicy, Header, PubAck, StorageType, StreamConfig, StreamInfo
from nats.js.errors import NotFoundError
from structlog.typing import FilteringBoundLogger

from services.mesh import faults, trace
from services.mesh.bus import BUS_ERRORS, TIMEOUT, Bus
from services.mesh.load import Load, fullness
from services.mesh.resting import rest
from services.mesh.settings import MeshSettings
from services.mesh.subjects import stream_of

if TYPE_CHECKING:
    from opentelemetry.trace import Span

# The advisory lock of the database; each service has one database.
_LOCK = 0x5A4D_0002
# Rows that are under way at once, unless another number is given.
BATCH = 1000
# Seconds in which more events gather while there are many: each batch costs three statements and a round
# trip, and each of its consumers a transaction.
_GATHERING = 0.05
# Seconds that a relay rests at most after a batch.
LONGEST_REST = 3.0
# How often to ask whether the stream is still the one we know, in seconds; also when connected, when failed.
LOOK_SECONDS = 30.0
# Two equal ids within this time are one in the stream, too.
DUPLICATES_SECONDS = 120.0
# InternalClientError: what asyncpg says of a connection that was cut while its last answer was still unread.
_DATABASE_ERRORS = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

_KNOWN = "SELECT stream_created_at, stream_sequence FROM outbox_head"
_SET_KNOWN = """
INSERT INTO outbox_head (stream_created_at, stream_sequence) VALUES ($1, $2)
ON CONFLICT ("only") DO UPDATE SET stream_created_at = $1, stream_sequence = $2
"""
_SAW = "UPDATE outbox_head SET stream_sequence = greatest(stream_sequence, $1)"

Acks = Sequence[PubAck | None]


class Row(Protocol):
    """An event: `id, created_at, subject, aggregate_id, aggregate_version, payload, traceparent`."""

    def __getitem__(self, name: str, /) -> Any: ...


class Source(Protocol):
    """Where a relay's events come from. All methods run in the relay's own connection, under its lock."""

    async def fetch(self, connection: asyncpg.Connection, most: int) -> tuple[Sequence[Row], bool]:
        """The next events that are not published, those of an aggregate in order; whether there are more."""
        ...

    async def mark(self, connection: asyncpg.Connection, rows: Sequence[Row], acks: Acks) -> None:
        """Rows that have an acknowledgement are published."""
        ...

    async def unmark(self, connection: asyncpg.Connection, since: datetime) -> int:
        """What is younger is to be published again; how much that is, or of how many aggregates."""
        ...

    async def has_published(self, connection: asyncpg.Connection, since: datetime) -> bool:
        """Whether something that is younger was published."""
        ...


def stream_config(
    context: str, mesh: MeshSettings, duplicates_seconds: float, subjects: Sequence[str] = ()
) -> StreamConfig:
    """How the stream of a context shall be: with all that it says, or with some subjects."""
    return StreamConfig(
        name=stream_of(context),
        subjects=list(subjects) or [f"sampan.{context}.>"],
        storage=StorageType.FILE,
        num_replicas=mesh.event_stream_replicas,
        max_age=mesh.event_stream_days * 86_400.0,
        max_bytes=mesh.event_stream_bytes,
        discard=DiscardPolicy.OLD,
        duplicate_window=duplicates_seconds,
    )


def headers_of(context: str, row: Row) -> dict[str, str]:
    """CloudEvents in binary mode, with the id by which JetStream drops a repeated publish."""
    headers = {
        Header.MSG_ID.value: str(row["id"]),
        "ce-specversion": "1.0",
        "ce-id": str(row["id"]),
        "ce-source": f"/sampan/{context}",
        "ce-type": row["subject"],
        "ce-subject": str(row["aggregate_id"]),
        "ce-time": row["created_at"].astimezone(UTC).isoformat().replace("+00:00", "Z"),
        "ce-aggregateversion": str(row["aggregate_version"]),
        "content-type": "application/protobuf",
    }
    return headers | {"traceparent": row["traceparent"]} if row["traceparent"] else headers


class Relay:
    """One for each service that publishes, in each of its processes. `url` is that of the running role.

    The connection must be straight to the server, or through a pooler in session mode: it holds a lock. Of
    all subjects of the context the stream has `subjects`, if there are some. After a batch of `most` the
    relay rests where the loop has no time left: `ease` times as long as the batch took, but never longer than
    LONGEST_REST. When no more events are known it rests for `gather` seconds, too.
    """

    def __init__(
        self,
        url: str,
        context: str,
        bus: Bus,
        source: Source,
        mesh: MeshSettings,
        log: FilteringBoundLogger,
        *,
        timeout: float,
        subjects: Sequence[str] = (),
        most: int = BATCH,
        gather: float = 0.0,
        ease: float = 0.0,
        duplicates_seconds: float = DUPLICATES_SECONDS,
        look_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._url = url
        self._context = context
        self._bus = bus
        self._source = source
        self._subjects = subjects
        self._most = most
        self._gather = gather
        self._ease = ease
        self._load = Load()
        self._mesh = mesh
        self._log = log
        self._timeout = timeout
        self._duplicates_seconds = duplicates_seconds
        # Of the stream, when it was last looked at.
        self._first_sequence = 0
        # Whether some of what is to be published may be in the stream already.
        self._doubts = True
        self._look_seconds = look_seconds
        self._woken = asyncio.Event()

    def wake(self) -> None:
        """Says that there is something to publish."""
        self._woken.set()

    async def run(self) -> None:
        """Until cancelled. Nothing that is away ends it; rows wait."""
        while True:
            try:
                await self._bus.connected()
                async with self._locked() as connection:
                    self._log.info("relay.leads")
                    await self._lead(connection)
            except (*_DATABASE_ERRORS, *BUS_ERRORS) as error:
                self._log.warning("relay.interrupted", error=type(error).__name__)
                await asyncio.sleep(self._mesh.relay_poll_seconds / 2)

    @asynccontextmanager
    async def _locked(self) -> AsyncIterator[asyncpg.Connection]:
        """The one connection that publishes; waits until it is this one's turn."""
        connection = await asyncpg.connect(
            self._url,
            timeout=self._timeout,
            command_timeout=self._timeout,
            # A mark that a crash takes back only has its event published again, under the same id.
            server_settings={"application_name": f"{self._context} relay", "synchronous_commit": "off"},
        )
        try:
            while not await connection.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK):
                await asyncio.sleep(self._mesh.relay_poll_seconds)
            yield connection
        finally:
            # Whatever state it is in, with the connection the lock goes.
            connection.terminate()

    async def _lead(self, connection: asyncpg.Connection) -> None:
        """Publishes as long as NATS is there."""
        known_until, epoch = 0.0, -1
        last = float("-inf")
        self._doubts = True
        now = asyncio.get_running_loop().time
        while self._bus.is_connected:
            self._woken.clear()
            if epoch != self._bus.epoch or now() >= known_until:
                epoch = self._bus.epoch
                await self._settle_stream(connection)
                known_until = now() + self._look_seconds
            began = now()
            rows, more = await self._source.fetch(connection, self._most)
            if rows and not await self._batch(connection, rows):
                # Somebody may have removed the stream; or it is full, or away.
                known_until, self._doubts = 0.0, True
                await asyncio.sleep(self._mesh.relay_poll_seconds)
                continue
            self._doubts = self._doubts and more
            took = now() - began
            # Several at once, or one just after another: as much will come in the next moment.
            busy = len(rows) > 1 or (len(rows) == 1 and (self._woken.is_set() or began - last < _GATHERING))
            last = now() if rows else last
            if not more and busy and not self._gather:
                await asyncio.sleep(_GATHERING)
            elif not more:
                await rest(self._woken, self._mesh.relay_poll_seconds)
            if self._gather or self._ease:
                eased = min(self._ease * took * fullness(self._load.share()), LONGEST_REST)
                # A backlog need not gather; to look through all that there is for more is in no hurry.
                await asyncio.sleep(eased + (0 if more and rows else self._gather))

    async def _batch(self, connection: asyncpg.Connection, rows: Sequence[Row]) -> bool:
        """Publishes rows and marks those that were acknowledged; whether that were all."""
        acks = await self._publish(rows)
        await faults.point("relay.after_publish")
        # First: who comes after us must know of all that was marked. What was seen and is not marked is only
        # published again.
        await connection.execute(_SAW, max((ack.seq for ack in acks if ack is not None), default=0))
        await self._source.mark(connection, rows, acks)
        missing = sum(ack is None for ack in acks)
        if missing:
            self._log.warning("relay.unacknowledged", rows=missing)
        return not missing

    async def _publish(self, rows: Sequence[Row]) -> list[PubAck | None]:
        """Pipelined. Each message but the first expects the one before it: none overtakes a lost one.

        So the acknowledgement of the last is that of all. While some may be there already, each has its own:
        only that says whether the stream still has what it calls a duplicate.
        """
        sent: list[asyncio.Future[PubAck]] = []
        spans: list[Span | None] = []
        before, last = "", rows[-1]
        try:
            for row in rows:
                headers, span = _traced(headers_of(self._context, row))
                spans.append(span)
                if before:
                    headers[Header.EXPECTED_LAST_MSG_ID.value] = before
                before = headers[Header.MSG_ID.value]
                if self._doubts or row is last:
                    sent.append(await self._ask(row, headers))
                else:
                    headers[Header.EXPECTED_STREAM.value] = stream_of(self._context)
                    await self._bus.say(row["subject"], row["payload"], headers=headers)
        except BUS_ERRORS as error:
            self._log.warning("relay.cut_off", error=type(error).__name__)
        if sent:
            await asyncio.wait(sent, timeout=TIMEOUT)
        acks = self._acks([_outcome(one) for one in sent], len(rows))
        for span, ack in zip(spans, acks, strict=False):
            if span is not None:
                trace.end(span, "" if ack else "unacknowledged")
        return acks

    async def _ask(self, row: Row, headers: dict[str, str]) -> asyncio.Future[PubAck]:
        """Publishes one message that is to be acknowledged."""
        return await self._bus.jetstream.publish_async(
            row["subject"], row["payload"], stream=stream_of(self._context), headers=headers
        )

    def _acks(self, acks: list[PubAck | None], count: int) -> list[PubAck | None]:
        """What was acknowledged of so many messages."""
        if self._doubts:
            return [self._kept(ack) for ack in acks] + [None] * (count - len(acks))
        ack = acks[0] if acks else None
        # A duplicate among what was never published: there is reason to doubt.
        return [None if ack is None or ack.duplicate else ack] * count

    def _kept(self, ack: PubAck | None) -> PubAck | None:
        """JetStream calls a message a duplicate also when it was purged meanwhile: then it has nothing of it.

        Such a message is published again until JetStream has forgotten its id.
        """
        gone = ack is not None and ack.duplicate and ack.seq < self._first_sequence
        return None if gone else ack

    async def _settle_stream(self, connection: asyncpg.Connection) -> None:
        """Makes the stream if there is none, and fills it again if it has lost what it was given."""
        info = await self._stream()
        created = info.created or datetime.now(UTC)
        self._first_sequence = info.state.first_seq
        known = await connection.fetchrow(_KNOWN)
        if known is None:
            await connection.execute(_SET_KNOWN, created, info.state.last_seq)
        elif (
            known["stream_created_at"] != created
            or info.state.last_seq < known["stream_sequence"]
            or await self._is_emptied(connection, info)
        ):
            await self._refill(connection, created, info.state.last_seq)

    async def _stream(self) -> StreamInfo:
        jetstream = self._bus.jetstream
        wanted = stream_config(self._context, self._mesh, self._duplicates_seconds, self._subjects)
        try:
            found = await jetstream.stream_info(stream_of(self._context))
        except NotFoundError:
            found = await jetstream.add_stream(wanted)
            self._log.info("relay.stream_made", stream=wanted.name)
        same = ("subjects", "num_replicas", "max_age", "max_bytes", "duplicate_window")
        if any(getattr(found.config, name) != getattr(wanted, name) for name in same):
            found = await jetstream.update_stream(wanted)
        # The answer that made it and later ones may tell the time with more or fewer digits.
        return await jetstream.stream_info(stream_of(self._context))

    async def _is_emptied(self, connection: asyncpg.Connection, info: StreamInfo) -> bool:
        if info.state.messages:
            return False
        young = datetime.now(UTC) - timedelta(days=self._mesh.event_stream_days) * 0.9
        return await self._source.has_published(connection, young)

    async def _refill(self, connection: asyncpg.Connection, created: datetime, sequence: int) -> None:
        since = datetime.now(UTC) - timedelta(days=self._mesh.event_stream_days)
        async with connection.transaction():
            await connection.execute("SET LOCAL statement_timeout = 0")
            self._doubts = True
            count = await self._source.unmark(connection, since)
            await connection.execute(_SET_KNOWN, created, sequence)
        self._log.warning("relay.refills", stream=stream_of(self._context), rows=count)


def _traced(headers: dict[str, str]) -> tuple[dict[str, str], Span | None]:
    """What is published as part of a trace that is kept has a span, from which its consumer goes on."""
    given, by = headers.get("traceparent", ""), trace.tracer.get()
    if by is None or not trace.is_kept(given) or trace.TRACEPARENT.fullmatch(given) is None:
        return headers, None
    span = trace.begin(
        by, given, f"{headers['ce-type']} publish", trace.PRODUCER, {"messaging.system": "nats"}
    )
    return headers | {"traceparent": trace.text_of(span)}, span


def _outcome(sent: asyncio.Future[PubAck]) -> PubAck | None:
    if not sent.done():
        sent.cancel()
        return None
    return None if sent.exception() else sent.result()
