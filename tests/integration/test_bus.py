"""What a flush of a connection to NATS means."""

from __future__ import annotations

import contextlib
from pathlib import Path

import nats

from services.mesh.bus import BUS_ERRORS, flushed
from tests.support.bus import ADMIN, nats_server
from tests.support.proxy import Cut, proxy_before


async def test_the_server_is_asked_after_all_that_was_said(tmp_path: Path) -> None:
    async with nats_server(tmp_path) as server, proxy_before(server.url(ADMIN)) as proxy:
        client = await nats.connect(proxy.url(server.url(ADMIN)), allow_reconnect=False)
        # Cuts the connection at a ping that comes after the subscription.
        proxy.cut_when = cut = Cut((b"SUB sampan.>", b"PING"), answered=False)
        await client.subscribe("sampan.>")
        with contextlib.suppress(*BUS_ERRORS):
            await flushed(client)
        assert cut.done == 1
        await client.close()
