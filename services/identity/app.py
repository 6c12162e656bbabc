"""Composition root of identity."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta

from structlog.typing import FilteringBoundLogger

from services.identity import repository_sessions
from services.identity.accounts import Accounts
from services.identity.codes import CodeLimits, Codes, Sender
from services.identity.contacts import Contacts
from services.identity.events import Events
from services.identity.housekeeping import Housekeeping
from services.identity.keyring import KeyRing
from services.identity.notification_client import NotificationSender
from services.identity.passwords import Passwords
from services.identity.people import People
from services.identity.service import IdentityService
from services.identity.servicer import IdentityServicer
from services.identity.servicer_internal import IdentityInternalServicer
from services.identity.sessions import Sessions
from services.identity.settings import IdentitySettings
from services.identity.tokens import TokenIssuer
from services.mesh import logs
from services.mesh.app import App
from services.mesh.bus import Bus
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Sweeper
from services.mesh.outbox import Keeper, Outbox
from services.mesh.relay import Relay
from services.mesh.revocation import Fetch, Revocation
from services.mesh.settings import MeshSettings
from services.mesh.vault import Vault


async def build(
    mesh: MeshSettings,
    settings: IdentitySettings | None = None,
    clock: Clock = system_clock,
    sender: Sender | None = None,
) -> App:
    """Builds the service; codes go out by `sender`, or else by the notification service.

    Raises Unavailable when its database cannot be reached.
    """
    settings = settings or IdentitySettings()
    database = Database(
        settings.database_url.get_secret_value(),
        pool=settings.database_pool,
        timeout=settings.database_timeout,
        name="identity",
    )
    vault = Vault(base64.b64decode(settings.master_key.get_secret_value()))
    passwords = _passwords(settings)
    people = People(vault)
    keys = _keys(database, vault, settings, clock)
    await keys.load()
    idempotency = Idempotency(vault.derive("idempotency"), passwords.stretch)
    log = logs.logger("identity")
    bus = Bus(settings.nats_url.get_secret_value(), "identity", log) if settings.nats_url else None
    relay = _relay(bus, mesh, settings, log) if bus else None
    events = Events(Outbox(relay.wake if relay else _nobody_to_wake))
    sessions = Sessions(
        database,
        people,
        _issuer(keys, vault, mesh, settings),
        idempotency,
        events,
        refresh_life=timedelta(seconds=settings.refresh_token_seconds),
        retry_window=timedelta(seconds=settings.refresh_retry_seconds),
        clock=clock,
    )
    accounts = Accounts(people, events, clock)
    service = IdentityService(
        database,
        passwords,
        people,
        accounts,
        sessions,
        idempotency,
        claims_tried=settings.unproven_claims_tried,
    )
    to_notification = Peer(mesh.peers.get("notification", ()), "notification", settings)
    codes = Codes(
        database,
        vault,
        people,
        accounts,
        passwords,
        sessions,
        idempotency,
        sender or NotificationSender(to_notification),
        _code_limits(settings),
    )
    revocations = _revocations(database)
    housekeeping = Housekeeping(database, keys, log, interval=settings.housekeeping_seconds)
    sweeper = Sweeper(database, settings.idempotency_keep_hours, log)
    keeper = Keeper(database, log, days=mesh.outbox_keep_days)
    background: list[Callable[[], Awaitable[None]]] = [housekeeping.run, sweeper.run, keeper.run]
    if bus and relay:
        background += [bus.run, relay.run]

    async def close() -> None:
        await to_notification.close()
        passwords.close()
        if bus:
            await bus.close()
        await database.close()

    return App(
        name="identity",
        settings=settings,
        servicers={
            "sampan.identity.v1.IdentityService": IdentityServicer(
                service, sessions, codes, keys, idempotency
            ),
            "sampan.identity.v1.IdentityInternalService": IdentityInternalServicer(
                service, Contacts(database, people), keys, revocations
            ),
        },
        keys=keys,
        revocations=revocations,
        background=background,
        closers=(close,),
        observed=(database.observe, keeper.observe, to_notification.observe, *([bus.observe] if bus else [])),
    )


def _nobody_to_wake() -> None:
    """Without a bus, events wait in the outbox."""


def _relay(bus: Bus, mesh: MeshSettings, settings: IdentitySettings, log: FilteringBoundLogger) -> Relay:
    url = settings.database_url.get_secret_value()
    return Relay(url, "identity", bus, mesh, log, timeout=settings.database_timeout)


def _passwords(settings: IdentitySettings) -> Passwords:
    return Passwords(
        memory_kib=settings.argon2_memory_kib,
        passes=settings.argon2_passes,
        lanes=settings.argon2_lanes,
        threads=settings.password_threads,
    )


def _keys(database: Database, vault: Vault, settings: IdentitySettings, clock: Clock) -> KeyRing:
    return KeyRing(
        database,
        vault,
        clock,
        notice=timedelta(seconds=settings.key_notice_seconds),
        token_life=timedelta(seconds=settings.access_token_seconds),
    )


def _issuer(keys: KeyRing, vault: Vault, mesh: MeshSettings, settings: IdentitySettings) -> TokenIssuer:
    return TokenIssuer(
        keys,
        vault,
        issuer=mesh.token_issuer,
        audience=mesh.token_audience,
        access_seconds=settings.access_token_seconds,
    )


def _code_limits(settings: IdentitySettings) -> CodeLimits:
    return CodeLimits(
        life=timedelta(seconds=settings.code_seconds),
        tries=settings.code_tries,
        per_day=settings.codes_per_day,
    )


def _revocations(database: Database) -> Fetch:
    async def after(number: int) -> Sequence[Revocation]:
        async with database.transaction() as connection:
            return await repository_sessions.revocations_after(connection, number)

    return after
