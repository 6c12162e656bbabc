"""Roles and databases: per service an owner, who may change the schema, and a runtime role, who may not."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING
from urllib.parse import urlsplit, urlunsplit

from services.stack.addresses import Addresses
from services.stack.errors import StackError
from services.stack.topology import SERVICES

if TYPE_CHECKING:
    from asyncpg import Connection

# Counts up when the statements below change, so that existing clusters get them.
VERSION = 1
MARKER = "sampan_stack"
# Seconds. A runaway statement or a forgotten transaction of a service ends by itself.
RUNTIME_LIMITS = {
    "statement_timeout": "30s",
    "idle_in_transaction_session_timeout": "60s",
    "lock_timeout": "10s",
}
PATIENCE = 30.0
SCRAM_ITERATIONS = 4096


def fingerprint(addresses: Addresses, services: Sequence[str]) -> str:
    """Changes when a service, a password or this file's work changes."""
    roles = {role: addresses.secrets.postgres_roles[role] for name in services for role in roles_of(name)}
    text = json.dumps([VERSION, roles, RUNTIME_LIMITS], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def roles_of(service: str) -> tuple[str, str]:
    return f"{service}_owner", service


def scram_verifier(password: str, salt: bytes | None = None) -> str:
    """What PostgreSQL keeps of a password (RFC 5803). Ours are ASCII, which SASLprep leaves as it is."""
    salt = salt or os.urandom(16)
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, SCRAM_ITERATIONS)
    client_key = hmac.digest(salted, b"Client Key", "sha256")
    server_key = hmac.digest(salted, b"Server Key", "sha256")
    parts = (salt, hashlib.sha256(client_key).digest(), server_key)
    encoded = [base64.b64encode(part).decode() for part in parts]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def role_statements(service: str, passwords: dict[str, str], existing: frozenset[str]) -> list[str]:
    """Makes or mends both roles. Only verifiers of the passwords are sent, so no log can hold more."""
    statements = []
    for role in roles_of(service):
        verb = "ALTER" if role in existing else "CREATE"
        rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION NOBYPASSRLS"
        statements.append(f"{verb} ROLE \"{role}\" {rights} PASSWORD '{scram_verifier(passwords[role])}'")
    for name, value in RUNTIME_LIMITS.items():
        statements.append(f"ALTER ROLE \"{service}\" SET {name} = '{value}'")
    return statements


def database_rights(service: str) -> list[str]:
    owner, runtime = roles_of(service)
    return [
        f'REVOKE ALL ON DATABASE "sampan_{service}" FROM PUBLIC',
        f'GRANT CONNECT ON DATABASE "sampan_{service}" TO "{owner}", "{runtime}"',
    ]


def schema_rights(service: str) -> list[str]:
    """Said inside the service's database."""
    owner, runtime = roles_of(service)
    return [
        "REVOKE ALL ON SCHEMA public FROM PUBLIC",
        f'ALTER SCHEMA public OWNER TO "{owner}"',
        f'GRANT USAGE ON SCHEMA public TO "{runtime}"',
    ]


async def connect(url: str) -> Connection:
    """Connects once the server takes logins: one that recovers from a crash says so for a while."""
    import asyncpg

    deadline = asyncio.get_running_loop().time() + PATIENCE
    while True:
        try:
            return await asyncpg.connect(url, timeout=10, statement_cache_size=0)
        except (OSError, asyncpg.CannotConnectNowError) as error:
            if asyncio.get_running_loop().time() > deadline:
                raise StackError("postgres", f"does not take logins: {error}") from None
            await asyncio.sleep(0.02)
        except asyncpg.InvalidPasswordError:
            hint = "secrets.json does not belong to this cluster: restore it, or begin anew: sampan reset"
            raise StackError("postgres", "refuses the password of this home", hint) from None


async def ensure(addresses: Addresses, services: Iterable[str]) -> bool:
    """Makes what is missing and returns whether anything was; on a warm start two queries show it."""
    managed = tuple(sorted(name for name in services if addresses.managed(name)))
    if not managed:
        return False
    wanted = fingerprint(addresses, managed)
    connection = await connect(addresses.superuser())
    try:
        if await _marked(connection) == wanted:
            return False
        # Two stacks may share one outside server.
        await connection.execute("SELECT pg_advisory_lock(727563616)")
        await _make(connection, addresses, managed)
        await _mark(connection, wanted)
    finally:
        await connection.close()
    return True


async def _marked(connection: Connection) -> str:
    """The fingerprint of the last completed work; empty when a database has gone missing since."""
    if await connection.fetchval("SELECT to_regclass($1)", f"public.{MARKER}") is None:
        return ""
    found = await connection.fetchval(f"SELECT fingerprint FROM public.{MARKER}")  # noqa: S608 - a constant
    return str(found or "")


async def _mark(connection: Connection, value: str) -> None:
    async with connection.transaction():
        await connection.execute(f"CREATE TABLE IF NOT EXISTS public.{MARKER} (fingerprint text NOT NULL)")
        await connection.execute(f"REVOKE ALL ON public.{MARKER} FROM PUBLIC")
        await connection.execute(f"DELETE FROM public.{MARKER}")  # noqa: S608 - a constant
        await connection.execute(f"INSERT INTO public.{MARKER} VALUES ($1)", value)  # noqa: S608 - a constant


async def _make(connection: Connection, addresses: Addresses, services: Sequence[str]) -> None:
    roles = frozenset(row[0] for row in await connection.fetch("SELECT rolname FROM pg_roles"))
    databases = {row[0] for row in await connection.fetch("SELECT datname FROM pg_database")}
    for service in services:
        for statement in role_statements(service, addresses.secrets.postgres_roles, roles):
            await connection.execute(statement)
        if f"sampan_{service}" not in databases:
            # An administrator that is no superuser may give away only what its own roles own.
            await connection.execute(f'GRANT "{service}_owner" TO CURRENT_USER')
            await connection.execute(
                f'CREATE DATABASE "sampan_{service}" OWNER "{service}_owner" '
                "TEMPLATE template0 ENCODING 'UTF8'"
            )
        for statement in database_rights(service):
            await connection.execute(statement)
    await asyncio.gather(*(_set_schema_rights(addresses, service) for service in services))


async def _set_schema_rights(addresses: Addresses, service: str) -> None:
    inside = urlunsplit(urlsplit(addresses.superuser())._replace(path=f"/sampan_{service}"))
    connection = await connect(inside)
    try:
        for statement in schema_rights(service):
            await connection.execute(statement)
    finally:
        await connection.close()


async def migrate(addresses: Addresses, services: Iterable[str]) -> list[str]:
    """Brings every database to its newest revision; returns the services that were behind."""
    from services.mesh import migrations

    owned = {name: addresses.database(name, owner=True) for name in services if addresses.migrated(name)}
    found = await asyncio.gather(*(migrations.current(url) for url in owned.values()))
    behind = [name for name, revision in zip(owned, found, strict=True) if revision != migrations.head(name)]
    for name in behind:
        # One after another: Alembic keeps its context in module globals.
        try:
            await migrations.upgrade(name, owned[name])
        except Exception as error:
            reason = f"migration of {name} failed: {type(error).__name__}: {str(error).splitlines()[0]}"
            raise StackError("migrate", reason, f"See services/{name}/migrations.") from error
    return behind


def services_with_database() -> list[str]:
    return [name for name, service in SERVICES.items() if service.database]
