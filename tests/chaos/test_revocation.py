"""A session that ended counts for nothing within a second, in every service, whatever else is away."""

from __future__ import annotations

import os
import signal

from services.mesh.clock import system_clock
from services.mesh.settings import MeshSettings
from services.profile.app import build as build_profile
from services.profile.settings import ProfileSettings
from tests.support.clients import Clients
from tests.support.errors import reason
from tests.support.mesh import channel_as, serving, settings_of
from tests.support.stack import Stack
from tests.support.waiting import until

PATHS = ("/v1/me", "/v1/profile")


async def ended_everywhere(clients: Clients, token: str) -> None:
    """Within one second, each service says that the token is not valid."""
    for path in PATHS:

        async def told(path: str = path) -> str:
            return (await clients.rest.call("GET", path, token=token)).reason

        await until(told, "TOKEN_INVALID", within=1.0)


async def test_with_nats_stopped(victim: Stack) -> None:
    async with Clients.of(victim) as clients:
        person = await clients.register()
        for path in PATHS:
            assert (await clients.rest.call("GET", path, token=person.token)).code in {200, 404}
        nats = victim.state.parts["nats"].pid
        os.kill(nats, signal.SIGSTOP)
        try:
            await clients.rest.call("POST", "/v1/auth/logout", {}, token=person.token)
            await ended_everywhere(clients, person.token)
        finally:
            os.kill(nats, signal.SIGCONT)


async def test_by_reuse_of_a_refresh_token(victim: Stack) -> None:
    async with Clients.of(victim) as clients:
        person = await clients.register()
        body = {"refresh_token": person.refresh_token}
        pair = await clients.rest.call("POST", "/v1/auth/token/refresh", body)
        token = pair.body["access_token"]
        for path in PATHS:
            assert (await clients.rest.call("GET", path, token=token)).code in {200, 404}
        again = await clients.rest.call("POST", "/v1/auth/token/refresh", body)
        assert again.reason == "REFRESH_TOKEN_REUSED"
        await ended_everywhere(clients, token)


async def test_in_a_service_that_starts_afterwards(victim: Stack) -> None:
    async with Clients.of(victim) as clients:
        person = await clients.register()
        await clients.rest.call("POST", "/v1/auth/logout", {}, token=person.token)
    identity = f"127.0.0.1:{victim.state.ports['identity']}"
    settings = ProfileSettings(
        **settings_of("profile", victim.pki),
        database_url=victim.addresses.database("profile"),
        master_key=victim.addresses.secrets.master_keys["profile"],
    )
    app = await build_profile(MeshSettings(peers={"identity": [identity]}), settings, system_clock)
    async with serving(app) as address, channel_as("edge", address, "profile", victim.pki) as channel:
        call = channel.unary_unary("/sampan.profile.v1.ProfileService/GetOwnProfile")
        metadata = [("authorization", f"Bearer {person.token}")]
        assert await reason(call(b"", metadata=metadata, timeout=5)) == "TOKEN_INVALID"
