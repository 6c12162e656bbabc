"""Composition root of profile."""

from __future__ import annotations

import base64

from services.mesh import logs
from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency, Sweeper
from services.mesh.identity_client import IdentityClient
from services.mesh.paging import PageTokens
from services.mesh.settings import MeshSettings
from services.mesh.vault import Vault
from services.profile.people import People
from services.profile.service import ProfileService
from services.profile.servicer import ProfileServicer
from services.profile.settings import ProfileSettings


async def build(
    mesh: MeshSettings, settings: ProfileSettings | None = None, clock: Clock = system_clock
) -> App:
    """Builds the service. Its database and identity are first asked when it serves."""
    settings = settings or ProfileSettings()
    database = Database(
        settings.database_url.get_secret_value(),
        pool=settings.database_pool,
        timeout=settings.database_timeout,
        name="profile",
    )
    vault = Vault(base64.b64decode(settings.master_key.get_secret_value()))
    idempotency = Idempotency(vault.derive("idempotency"))
    page_tokens = PageTokens(vault.derive("page-tokens"), "profiles")
    service = ProfileService(database, People(vault), page_tokens, idempotency)
    sweeper = Sweeper(database, settings.idempotency_keep_hours, logs.logger("profile"))
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)

    async def close() -> None:
        await to_identity.close()
        await database.close()

    return App(
        name="profile",
        settings=settings,
        servicers={"sampan.profile.v1.ProfileService": ProfileServicer(service, idempotency)},
        keys=identity,
        revocations=identity.revocations,
        background=(sweeper.run,),
        closers=(close,),
        observed=(database.observe, to_identity.observe),
    )
