"""Composition root of identity."""

from __future__ import annotations

import base64

from services.identity.keyring import KeyRing
from services.identity.passwords import Passwords
from services.identity.people import People
from services.identity.service import IdentityService
from services.identity.servicer import IdentityServicer
from services.identity.settings import IdentitySettings
from services.identity.tokens import TokenIssuer
from services.mesh.app import App
from services.mesh.clock import Clock, system_clock
from services.mesh.database import Database
from services.mesh.settings import MeshSettings
from services.mesh.vault import Vault


async def build(
    mesh: MeshSettings, settings: IdentitySettings | None = None, clock: Clock = system_clock
) -> App:
    """Builds the service. Raises Unavailable when its database cannot be reached."""
    settings = settings or IdentitySettings()
    database = Database(
        settings.database_url.get_secret_value(),
        pool=settings.database_pool,
        timeout=settings.database_timeout,
        name="identity",
    )
    vault = Vault(base64.b64decode(settings.master_key.get_secret_value()))
    passwords = Passwords(
        memory_kib=settings.argon2_memory_kib,
        passes=settings.argon2_passes,
        lanes=settings.argon2_lanes,
        threads=settings.password_threads,
    )
    keys = KeyRing(database, vault, clock)
    await keys.load()
    issuer = TokenIssuer(
        keys,
        vault,
        issuer=mesh.token_issuer,
        audience=mesh.token_audience,
        access_seconds=settings.access_token_seconds,
    )
    service = IdentityService(
        database,
        passwords,
        People(vault),
        issuer,
        refresh_seconds=settings.refresh_token_seconds,
        claims_tried=settings.unproven_claims_tried,
        clock=clock,
    )

    async def close() -> None:
        passwords.close()
        await database.close()

    return App(
        name="identity",
        settings=settings,
        servicers={"sampan.identity.v1.IdentityService": IdentityServicer(service, keys)},
        keys=keys,
        closers=(close,),
    )
