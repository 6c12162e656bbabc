"""Composition root of identity."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta

from services.identity import repository_sessions
from services.identity.accounts import Accounts
from services.identity.codes import CodeLimits, Codes, Sender
from services.identity.contacts import Contacts
from services.identity.events import Events
from services.identity.housekeeping import Housekeeping
from services.identity.keyring import KeyRing
from services.identity.notification_client import NotificationSender
from services.identity.passwords import Passwords
from services.identity.payment_client import PaymentTeller
from services.identity.people import People
from services.identity.recent_revocations import RecentRevocations
from services.identity.service import IdentityService
from services.identity.servicer import IdentityServicer
from services.identity.servicer_internal import IdentityInternalServicer
from services.identity.sessions import Sessions
from services.identity.settings import IdentitySettings
from services.identity.standings import Announcer, Standings
from services.identity.tokens import TokenIssuer
from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.database import Database
from services.mesh.fast_database import FastDatabase
from services.mesh.foundation import Foundation
from services.mesh.idempotency import Idempotency
from services.mesh.revocation import Revocation
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
    base = Foundation("identity", mesh, settings)
    passwords = _passwords(settings)
    idempotency = base.idempotency(passwords.stretch)
    keys = _keys(base, idempotency, settings, clock)
    await keys.load()
    to_notification = Peer(mesh.peers.get("notification", ()), "notification", settings)
    to_payment = Peer(mesh.peers.get("payment", ()), "payment", settings)
    announcer = Announcer(
        base.database, PaymentTeller(to_payment), base.log, interval=settings.standing_seconds
    )
    ended = _revocations(base.fast_database("revocations", 1))
    people = People(base.vault)
    events = Events(base.outbox())
    accounts = Accounts(people, events, clock)
    issuer = _issuer(keys, base.vault, mesh, settings)
    sessions = _sessions(base.database, people, issuer, idempotency, events, settings, clock)
    tried = settings.unproven_claims_tried
    service = IdentityService(
        base.database, passwords, people, accounts, sessions, idempotency, claims_tried=tried
    )
    codes = Codes(
        base.database,
        base.vault,
        people,
        accounts,
        passwords,
        sessions,
        idempotency,
        sender or NotificationSender(to_notification),
        _code_limits(settings),
        announcer.wake,
    )
    housekeeping = Housekeeping(base.database, keys, base.log, interval=settings.housekeeping_seconds)
    return App(
        name="identity",
        settings=settings,
        servicers={
            "sampan.identity.v1.IdentityService": IdentityServicer(
                service, sessions, codes, keys, idempotency
            ),
            "sampan.identity.v1.IdentityInternalService": IdentityInternalServicer(
                service,
                Contacts(base.database, people),
                keys,
                ended,
                Standings(base.database, sessions, idempotency, announcer),
                idempotency,
            ),
        },
        keys=keys,
        revocations=ended.watch,
        drain=ended.close,
        background=(housekeeping.run, announcer.run, *base.background),
        closers=(to_notification.close, to_payment.close, passwords.close, base.close),
        observed=(*base.observed, to_notification.observe, to_payment.observe),
    )


def _passwords(settings: IdentitySettings) -> Passwords:
    return Passwords(
        memory_kib=settings.argon2_memory_kib,
        passes=settings.argon2_passes,
        lanes=settings.argon2_lanes,
        threads=settings.password_threads,
    )


def _keys(base: Foundation, idempotency: Idempotency, settings: IdentitySettings, clock: Clock) -> KeyRing:
    return KeyRing(
        base.database,
        base.vault,
        idempotency,
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


def _sessions(
    database: Database,
    people: People,
    issuer: TokenIssuer,
    idempotency: Idempotency,
    events: Events,
    settings: IdentitySettings,
    clock: Clock,
) -> Sessions:
    return Sessions(
        database,
        people,
        issuer,
        idempotency,
        events,
        refresh_life=timedelta(seconds=settings.refresh_token_seconds),
        retry_window=timedelta(seconds=settings.refresh_retry_seconds),
        clock=clock,
    )


def _code_limits(settings: IdentitySettings) -> CodeLimits:
    return CodeLimits(
        life=timedelta(seconds=settings.code_seconds),
        tries=settings.code_tries,
        per_day=settings.codes_per_day,
    )


def _revocations(database: FastDatabase) -> RecentRevocations:
    async def after(number: int) -> Sequence[Revocation]:
        return await repository_sessions.revocations_after(database, number)

    return RecentRevocations(after, repository_sessions.REVOCATIONS_PAGE, time.monotonic)
