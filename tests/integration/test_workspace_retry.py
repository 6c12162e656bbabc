"""A channel that messaging could not be told of: its maker tries again, and nobody else is about."""

from __future__ import annotations

from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support.databases import Clone, workspace_app
from tests.support.errors import reason
from tests.support.mesh import Minter, serving
from tests.support.workspace import QUICK, MessagingPlayed, people_of
from tests.support.workspace_channels import got


async def test_whoever_tries_again_without_a_request_id_gets_one_channel_too(
    workspace_database: Clone,
    messaging_played: tuple[MessagingPlayed, str],
    pki: Pki,
) -> None:
    peers = {"identity": ["127.0.0.1:1"], "messaging": [messaging_played[1]]}
    mesh = MeshSettings(rate_limit_scale=10_000, peers=peers)
    # Nobody but the one who asks finishes anything here: there is no other sweeper of this database, either.
    settings = QUICK | {"sweep_seconds": 3600.0}
    messaging = messaging_played[0]
    app = await workspace_app(workspace_database, pki, mesh, Minter(), **settings)
    async with serving(app, mesh) as address, people_of(app, address, pki) as people:
        made, owner, (member,) = await people.in_workspace(1)
        messaging.away = True
        assert await reason(owner.channel(made.id, name="one", description="first")) == "UNAVAILABLE"
        messaging.away = False
        assert await reason(member.channel(made.id, name="one")) == "CHANNEL_NAME_TAKEN"
        channel = await owner.channel(made.id, name="one", description="second")
        assert (await got(owner, channel)).description == "second"
        assert await owner.channels(made.id) == ["one"]
