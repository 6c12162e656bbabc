"""One effect of many equal requests: what a `request_id` was answered, kept in the transaction of the effect.

A use case claims the request's key first, in its own transaction, and keeps what it needs to answer once
more:

    async with database.transaction("register") as connection:
        known = await idempotency.claim(connection, key)
        if known is not None:
            return <the answer made again of known>
        <the effect>
        await idempotency.keep(connection, key, <what is needed>)

Equal requests at the same time wait for the first one's commit. What fails keeps nothing, so that a retry may
do better. Without a `request_id` there is no key, and nothing here asks the database.
"""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import cache
from uuid import UUID

import sqlalchemy as sa
from google.protobuf.descriptor import Descriptor
from google.protobuf.message import Message
from sqlalchemy.dialects.postgresql import UUID as PGUUID
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection
from structlog.typing import FilteringBoundLogger

from services.mesh.call import Call
from services.mesh.database import Database
from services.mesh.errors import RequestIdReused, Unavailable
from services.mesh.policy import Access
from services.mesh.vault import keyed_hash

# Makes of a secret and a salt of 16 bytes something that is slow to guess: for passwords.
Stretch = Callable[[bytes, bytes], Awaitable[bytes]]

_SALT_BYTES = 16
# How often to look for what is too old, in seconds, and how much one statement deletes at most.
_SWEEP_SECONDS = 60.0
_SWEEP_LIMIT = 1000
_NAME = "idempotency"
_INDEX = "idempotency_created_idx"


def _columns() -> tuple[sa.Column[object] | sa.PrimaryKeyConstraint, ...]:
    return (
        # Whose the id is: an account's id, a service's name, or empty for somebody who is not signed in.
        sa.Column("caller", sa.Text, nullable=False),
        # Full name of the method, such as sampan.identity.v1.IdentityService/Register.
        sa.Column("method", sa.Text, nullable=False),
        sa.Column("request_id", PGUUID(as_uuid=True), nullable=False),
        # Keyed hash of the request without its id, so that the same id with another request is refused.
        sa.Column("request_hash", sa.LargeBinary, nullable=False),
        # What is needed to answer once more. Never a token.
        sa.Column("result", sa.LargeBinary, nullable=False, server_default=""),
        sa.Column("created_at", sa.DateTime(timezone=True), nullable=False, server_default=sa.func.now()),
        sa.PrimaryKeyConstraint("caller", "method", "request_id", name="idempotency_pkey"),
    )


def declare(metadata: sa.MetaData) -> sa.Table:
    """The table, for a service's models."""
    table = sa.Table(_NAME, metadata, *_columns())
    sa.Index(_INDEX, table.c.created_at)
    return table


def create(role: str) -> None:
    """Makes the table, in a migration; `role` is the one that the service runs as."""
    from alembic import op

    op.create_table(_NAME, *_columns())
    op.create_index(_INDEX, _NAME, ["created_at"])
    op.execute(f'GRANT SELECT, INSERT, DELETE, UPDATE (result) ON {_NAME} TO "{role}"')


def drop() -> None:
    """Removes the table, in a migration."""
    from alembic import op

    op.drop_table(_NAME)


_table = declare(sa.MetaData())


@dataclass(frozen=True, slots=True)
class Key:
    """A request that shall have one effect: whose it is, its method and id, and the hash of what it says."""

    caller: str
    method: str
    request_id: UUID
    request_hash: bytes

    def row(self) -> sa.ColumnElement[bool]:
        """Where its row is."""
        return sa.and_(
            _table.c.caller == self.caller,
            _table.c.method == self.method,
            _table.c.request_id == self.request_id,
        )


class Idempotency:
    """Keys of requests, and what they were answered. `secret`, 32 bytes, keys the hashes of requests.

    `stretch` is for services whose requests hold passwords: a plain keyed hash of one would be a way around
    the slow one, should the key ever be known. Fields that the contract marks `debug_redact` go through it.
    """

    def __init__(self, secret: bytes, stretch: Stretch | None = None) -> None:
        self._secret = secret
        self._stretch = stretch

    async def key(
        self, request: Message, call: Call, *, also: str = "", verified: Sequence[str] = ()
    ) -> Key | None:
        """The key of a request, or None when it has no `request_id`.

        `also` is what counts as input and stands in no field. `verified` are fields that the use case checks
        at each call, a repeated one, too, so that they need not be compared.
        """
        request_id: str = request.request_id  # type: ignore[attr-defined]
        if not request_id:
            return None
        caller = _caller(call)
        method = call.method.path.removeprefix("/")
        plain = type(request)()
        plain.CopyFrom(request)
        for name in ("request_id", *verified):
            plain.ClearField(name)
        normal = str(UUID(request_id))
        salt = keyed_hash(self._secret, "salt", caller, method, normal)[:_SALT_BYTES]
        stretched = await self._take_secrets(plain, salt)
        said = plain.SerializeToString(deterministic=True)
        request_hash = keyed_hash(self._secret, "request", also, said.hex(), stretched.hex())
        return Key(caller, method, UUID(normal), request_hash)

    async def _take_secrets(self, plain: Message, salt: bytes) -> bytes:
        if self._stretch is None:
            return b""
        names = [name for name in _secret_fields(plain.DESCRIPTOR) if getattr(plain, name)]
        if not names:
            return b""
        secrets = [(name, getattr(plain, name)) for name in names]
        for name in names:
            plain.ClearField(name)
        return await self._stretch(
            "".join(f"{name}:{len(value)}:{value}" for name, value in secrets).encode(), salt
        )

    async def claim(self, connection: AsyncConnection, key: Key | None) -> bytes | None:
        """What was kept for an equal request; None when this is the first, which is then to be done.

        Waits for an equal request that is being done. Raises RequestIdReused for another request with the id.
        """
        if key is None:
            return None
        done = await connection.execute(
            insert(_table)
            .values(
                caller=key.caller,
                method=key.method,
                request_id=key.request_id,
                request_hash=key.request_hash,
            )
            .on_conflict_do_nothing(constraint="idempotency_pkey")
        )
        if done.rowcount == 1:
            return None
        known = await self.known(connection, key)
        if known is None:
            # It was deleted by age between the two statements: the next try will insert.
            raise Unavailable
        return known

    async def known(self, connection: AsyncConnection, key: Key | None) -> bytes | None:
        """What was kept for an equal request, or None. Claims nothing. Raises RequestIdReused."""
        if key is None:
            return None
        row = (
            await connection.execute(sa.select(_table.c.request_hash, _table.c.result).where(key.row()))
        ).one_or_none()
        if row is None:
            return None
        if not hmac.compare_digest(row.request_hash, key.request_hash):
            raise RequestIdReused
        result: bytes = row.result
        return result

    async def keep(self, connection: AsyncConnection, key: Key | None, result: bytes) -> None:
        """Keeps what is needed to answer once more. Needless when that is nothing. Never a token."""
        if key is not None:
            await connection.execute(sa.update(_table).where(key.row()).values(result=result))

    async def forget(self, connection: AsyncConnection, key: Key | None) -> None:
        """Takes a claim back, when what failed is committed all the same, such as a counted try."""
        if key is not None:
            await connection.execute(sa.delete(_table).where(key.row()))


class Sweeper:
    """Forgets what is older than `keep_hours`, as background work."""

    def __init__(self, database: Database, keep_hours: int, log: FilteringBoundLogger) -> None:
        self._database = database
        self._keep_hours = keep_hours
        self._log = log

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            try:
                while await self.once() == _SWEEP_LIMIT:
                    pass
            except Unavailable:
                self._log.warning("idempotency.sweep_postponed")
            await asyncio.sleep(_SWEEP_SECONDS)

    async def once(self) -> int:
        """Deletes some; returns how many. Raises Unavailable."""
        age = sa.func.make_interval(0, 0, 0, 0, self._keep_hours)
        old = (
            sa.select(_table.c.caller, _table.c.method, _table.c.request_id)
            .where(_table.c.created_at < sa.func.now() - age)
            .limit(_SWEEP_LIMIT)
        )
        where = sa.tuple_(_table.c.caller, _table.c.method, _table.c.request_id).in_(old)
        async with self._database.transaction() as connection:
            return (await connection.execute(sa.delete(_table).where(where))).rowcount


def _caller(call: Call) -> str:
    if call.user is not None:
        return call.user.id
    return call.caller if call.method.access is Access.SERVICE else ""


@cache
def _secret_fields(descriptor: Descriptor) -> tuple[str, ...]:
    """Text fields that the contract wants hidden, in the order of the message."""
    return tuple(
        field.name
        for field in descriptor.fields
        if field.GetOptions().debug_redact and field.type == field.TYPE_STRING
    )
