"""Composition root of profile."""

from __future__ import annotations

from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.foundation import Foundation
from services.mesh.identity_client import IdentityClient
from services.mesh.settings import MeshSettings
from services.profile.people import People
from services.profile.service import ProfileService
from services.profile.servicer import ProfileServicer
from services.profile.settings import ProfileSettings


async def build(
    mesh: MeshSettings, settings: ProfileSettings | None = None, clock: Clock = system_clock
) -> App:
    """Builds the service. Its database and identity are first asked when it serves."""
    settings = settings or ProfileSettings()
    base = Foundation("profile", mesh, settings)
    idempotency = base.idempotency()
    page_tokens = base.page_tokens("profiles")
    service = ProfileService(base.database, People(base.vault), page_tokens, idempotency)
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)

    return App(
        name="profile",
        settings=settings,
        servicers={"sampan.profile.v1.ProfileService": ProfileServicer(service, idempotency)},
        keys=identity,
        revocations=identity.revocations,
        background=base.background,
        closers=(to_identity.close, base.close),
        observed=(*base.observed, to_identity.observe),
    )
