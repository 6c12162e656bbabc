"""A database behind a network that fails: errors say so in time, and it works again by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from services.mesh.database import Database
from services.mesh.errors import OutcomeUnknown, Unavailable
from tests.support import faults
from tests.support.databases import Clone
from tests.support.proxy import Proxy, proxy_before
from tests.support.waiting import until

# Long enough for a busy machine to make a connection in.
TIMEOUT = 2.0


@dataclass(frozen=True)
class Far:
    """A database, and the network before it."""

    database: Database
    network: Proxy

    async def ask(self, step: str = "") -> int:
        """Asks it something."""
        async with self.database.transaction(step) as connection:
            found: int = (await connection.execute(text("SELECT 1"))).scalar_one()
            return found


@pytest.fixture
async def far(identity_database: Clone) -> AsyncIterator[Far]:
    async with proxy_before(identity_database.runtime_url) as network:
        url = network.url(identity_database.runtime_url)
        database = Database(url, pool=1, timeout=TIMEOUT, name="tests")
        try:
            yield Far(database, network)
        finally:
            network.resume()
            await database.close()


async def test_a_network_that_lets_nothing_pass_is_unavailable_within_the_timeout(far: Far) -> None:
    assert await far.ask() == 1
    far.network.stop()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await far.ask()
    # Two statements at most wait: the question and its roll-back.
    assert time.monotonic() - started < 5 * TIMEOUT
    far.network.resume()
    assert await far.ask() == 1


async def test_refused_connections_are_unavailable(far: Far) -> None:
    far.network.refuses = True
    with pytest.raises(Unavailable):
        await far.ask()
    far.network.refuses = False
    assert await far.ask() == 1


async def test_cut_connections_are_made_anew(far: Far) -> None:
    assert await far.ask() == 1
    far.network.cut()
    with pytest.raises(Unavailable):
        await far.ask()
    assert await far.ask() == 1


async def test_who_is_given_up_in_a_deadlock_is_told_to_try_again_and_the_other_goes_on(
    identity_database: Clone,
) -> None:
    database = Database(identity_database.runtime_url, pool=2, timeout=20, name="tests")
    met = asyncio.Barrier(2)

    async def lock(first: int, then: int) -> None:
        async with database.transaction() as connection:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": first})
            await met.wait()
            await connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": then})

    try:
        ends = await asyncio.gather(lock(1, 2), lock(2, 1), return_exceptions=True)
    finally:
        await database.close()
    assert [type(end) for end in ends if end is not None] == [Unavailable], ends


async def test_a_slow_network_is_slow(far: Far) -> None:
    far.network.delay = 0.02
    started = time.monotonic()
    assert await far.ask() == 1
    assert time.monotonic() - started > 0.02


async def test_a_connection_that_closes_before_the_commit_leaves_it_unknown(far: Far, tmp_path: Path) -> None:
    with (
        faults.here(tmp_path),
        faults.armed(tmp_path, "tests.ask.before_commit", "close_connection"),
        pytest.raises(OutcomeUnknown),
    ):
        await far.ask("ask")
    assert await far.ask("ask") == 1


async def test_a_connection_that_the_server_has_closed_is_replaced_unseen(
    identity_database: Clone, far: Far
) -> None:
    async with far.database.reading() as connection:
        driver: Any = (await connection.get_raw_connection()).driver_connection
    operator = await asyncpg.connect(identity_database.admin_url)
    try:
        ours = "FROM pg_stat_activity WHERE datname = $1 AND application_name = 'tests'"
        await operator.execute(f"SELECT pg_terminate_backend(pid) {ours}", identity_database.name)
    finally:
        await operator.close()

    async def is_known() -> bool:
        return bool(driver.is_closed())

    await until(is_known, wanted=True, within=20)
    assert await far.ask() == 1
    async with far.database.reading() as connection:
        assert (await connection.execute(text("SELECT 2"))).scalar_one() == 2
