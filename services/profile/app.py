"""Composition root of profile."""

from __future__ import annotations

import base64

from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.database import Database
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
    service = ProfileService(
        database,
        People(vault),
        PageTokens(vault.derive("page-tokens"), "profiles"),
        request_key=vault.derive("create-requests"),
    )
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)

    async def close() -> None:
        await to_identity.close()
        await database.close()

    return App(
        name="profile",
        settings=settings,
        servicers={"sampan.profile.v1.ProfileService": ProfileServicer(service)},
        keys=identity,
        revocations=identity.revocations,
        closers=(close,),
    )
