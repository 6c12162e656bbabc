"""Databases for tests: a migrated template once a run, a clone for each module."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from services.analytics.app import build as build_analytics
from services.analytics.settings import AnalyticsSettings
from services.identity.app import build as build_identity
from services.identity.settings import IdentitySettings
from services.mesh import migrations
from services.mesh.app import App
from services.mesh.auth import Keys
from services.mesh.clock import Clock, system_clock
from services.mesh.revocation import nothing_revoked
from services.mesh.settings import MeshSettings
from services.messaging.app import build as build_messaging
from services.messaging.publishing import Publisher
from services.messaging.settings import MessagingSettings
from services.notification.app import build as build_notification
from services.notification.settings import NotificationSettings
from services.payment.app import build as build_payment
from services.payment.settings import PaymentSettings
from services.presence.app import build as build_presence
from services.presence.settings import PresenceSettings
from services.profile.app import build as build_profile
from services.profile.settings import ProfileSettings
from services.stack.pki import Pki
from services.workspace.app import build as build_workspace
from services.workspace.settings import WorkspaceSettings
from tests.support.mesh import settings_of
from tests.support.stack import Stack, execute


@dataclass(frozen=True)
class Clone:
    """URLs of one database for each of its roles."""

    name: str
    admin_url: str
    owner_url: str
    runtime_url: str
    master_key: str


def with_database(url: str, name: str) -> str:
    """The URL with another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


async def _template(stack: Stack, service: str) -> str:
    """Makes the migrated template of a service, once in a run; returns its name."""
    name = f"template_{service}"
    run = Path(os.environ["SAMPAN_TEST_RUN"])
    with (run / f"{name}.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if not lock.read():
            found = stack.addresses
            await execute(found.superuser(), f'CREATE DATABASE "{name}" OWNER "{service}_owner"')
            await migrations.upgrade(service, with_database(found.database(service, owner=True), name))
            lock.write("made")
    return name


@asynccontextmanager
async def clone(stack: Stack, service: str) -> AsyncIterator[Clone]:
    """A fresh database of a service, dropped at the end."""
    template = await _template(stack, service)
    name = f"test_{service}_{secrets.token_hex(6)}"
    found = stack.addresses
    admin = found.superuser()
    await execute(admin, f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER "{service}_owner"')
    try:
        yield Clone(
            name,
            with_database(admin, name),
            with_database(found.database(service, owner=True), name),
            with_database(found.database(service), name),
            base64.b64encode(secrets.token_bytes(32)).decode(),
        )
    finally:
        await execute(admin, f'DROP DATABASE "{name}" WITH (FORCE)')


async def identity_app(found: Clone, pki: Pki, mesh: MeshSettings, clock: Clock = system_clock) -> App:
    """Identity, built on a clone, with quick password hashes."""
    settings = IdentitySettings(
        **settings_of("identity", pki),
        database_url=found.runtime_url,
        master_key=found.master_key,
        argon2_memory_kib=64,
        argon2_passes=1,
    )
    return await build_identity(mesh, settings, clock)


async def notification_app(found: Clone, pki: Pki, **more: Any) -> App:
    """Notification, built on a clone. Without more it has no provider."""
    settings = NotificationSettings(
        **settings_of("notification", pki),
        database_url=found.runtime_url,
        master_key=found.master_key,
        **more,
    )
    return await build_notification(MeshSettings(), settings)


async def profile_app(found: Clone, pki: Pki, mesh: MeshSettings, keys: Keys | None = None) -> App:
    """Profile, built on a clone. With `keys` it trusts those, and asks identity nothing."""
    settings = ProfileSettings(
        **settings_of("profile", pki), database_url=found.runtime_url, master_key=found.master_key
    )
    app = await build_profile(mesh, settings)
    return app if keys is None else replace(app, keys=keys, revocations=nothing_revoked)


async def workspace_app(
    found: Clone, pki: Pki, mesh: MeshSettings, keys: Keys | None = None, **more: Any
) -> App:
    """Workspace, built on a clone. With `keys` it trusts those, and asks identity nothing."""
    settings = WorkspaceSettings(
        **settings_of("workspace", pki), database_url=found.runtime_url, master_key=found.master_key, **more
    )
    app = await build_workspace(mesh, settings)
    return app if keys is None else replace(app, keys=keys, revocations=nothing_revoked)


async def messaging_app(
    found: Clone,
    pki: Pki,
    mesh: MeshSettings,
    keys: Keys | None = None,
    publisher: Publisher | None = None,
    **more: Any,
) -> App:
    """Messaging, built on a clone. With `keys` it trusts those."""
    settings = MessagingSettings(
        **settings_of("messaging", pki),
        **{"database_url": found.runtime_url, "master_key": found.master_key, **more},
    )
    app = await build_messaging(mesh, settings, publisher=publisher)
    return app if keys is None else replace(app, keys=keys, revocations=nothing_revoked)


async def presence_app(found: Clone, pki: Pki, mesh: MeshSettings, keys: Keys, **more: Any) -> App:
    """Presence, built on a clone, with keys that a test gives. `more` says where Redis and NATS are."""
    settings = PresenceSettings(
        **settings_of("presence", pki),
        database_url=found.runtime_url,
        master_key=found.master_key,
        **more,
    )
    return replace(await build_presence(mesh, settings), keys=keys, revocations=nothing_revoked)


async def payment_app(
    found: Clone, pki: Pki, mesh: MeshSettings, keys: Keys | None = None, **more: Any
) -> App:
    """Payment, built on a clone. With `keys` it trusts those, and asks identity nothing."""
    settings = PaymentSettings(
        **settings_of("payment", pki),
        **{
            "database_url": found.runtime_url,
            "master_key": found.master_key,
            "sandbox_secret": "00" * 32,
            "sandbox_journal": Path("/nowhere"),
            **more,
        },
    )
    app = await build_payment(mesh, settings)
    return app if keys is None else replace(app, keys=keys, revocations=nothing_revoked)


async def analytics_app(
    found: Clone, pki: Pki, mesh: MeshSettings, keys: Keys | None = None, **more: Any
) -> App:
    """Analytics, built on a clone. With `keys` it trusts those, and asks identity nothing."""
    settings = AnalyticsSettings(
        **settings_of("analytics", pki), database_url=found.runtime_url, master_key=found.master_key, **more
    )
    app = await build_analytics(mesh, settings)
    return app if keys is None else replace(app, keys=keys, revocations=nothing_revoked)
