"""The database on asyncpg itself: what it says when something is lost, and that it works again by itself."""

from __future__ import annotations

import asyncio
import time
import traceback
from collections.abc import AsyncIterator
from dataclasses import dataclass
from urllib.parse import urlsplit

import asyncpg
import pytest

from services.mesh.errors import Internal, OutcomeUnknown, SampanError, Unavailable
from services.mesh.fast_database import FastDatabase, Lost
from tests.support.posts import Truth, truth
from tests.support.proxy import Cut, Proxy, proxy_before
from tests.support.stack import Stack
from tests.support.waiting import until

# Long enough for a busy machine to make a connection in.
TIMEOUT = 2.0
INSERT = "INSERT INTO posts (lane) VALUES ($1)"


@dataclass(frozen=True)
class Far:
    """A database, the network before it, and what is in it."""

    database: FastDatabase
    network: Proxy
    truth: Truth

    async def rows(self) -> int:
        """How many rows there are."""
        return int(await self.truth.operator.fetchval("SELECT count(*) FROM posts"))


@pytest.fixture(scope="module")
async def posts_truth(stack: Stack) -> AsyncIterator[Truth]:
    async with truth(stack) as found:
        yield found


@pytest.fixture
async def far(posts_truth: Truth) -> AsyncIterator[Far]:
    await posts_truth.operator.execute("TRUNCATE posts")
    async with proxy_before(posts_truth.url) as network:
        database = FastDatabase(network.url(posts_truth.url), pool=1, timeout=TIMEOUT, name="tests")
        try:
            yield Far(database, network, posts_truth)
        finally:
            network.resume()
            await posts_truth.operator.execute("SELECT pg_advisory_unlock_all()")
            await database.close()


async def test_a_block_that_raises_is_rolled_back(far: Far) -> None:
    async def block() -> None:
        async with far.database.transaction() as connection:
            await connection.execute(INSERT, 1)
            raise KeyError

    with pytest.raises(KeyError):
        await block()
    assert await far.rows() == 0
    async with far.database.transaction() as connection:
        await connection.execute(INSERT, 1)
    assert await far.rows() == 1
    assert len(await far.truth.backends()) == 1


async def test_a_failed_statement_that_the_block_swallowed_is_not_taken_for_a_commit(far: Far) -> None:
    async def block() -> None:
        async with far.database.transaction() as connection:
            await connection.execute(INSERT, 1)
            with pytest.raises(asyncpg.DivisionByZeroError):
                await connection.execute("SELECT 1 / 0")

    with pytest.raises(Internal):
        await block()
    assert await far.rows() == 0


async def test_a_connection_lost_before_the_commit_is_unavailable(far: Far) -> None:
    async def block() -> None:
        async with far.database.transaction() as connection:
            await connection.execute(INSERT, 1)
            far.network.cut()
            await connection.execute(INSERT, 2)

    with pytest.raises(Unavailable) as error:
        await block()
    assert type(error.value) is Unavailable
    assert await far.rows() == 0


@pytest.mark.parametrize("answered", [False, True])
async def test_a_connection_lost_during_the_commit_is_lost_and_settling_shows_the_truth(
    far: Far, answered: bool
) -> None:
    far.network.cut_when = Cut([b"COMMIT"], answered=answered)
    with pytest.raises(Lost) as error:
        async with far.database.transaction() as connection:
            await connection.execute(INSERT, 1)
    assert (error.value.reason, isinstance(error.value, OutcomeUnknown)) == ("OUTCOME_UNKNOWN", True)
    await error.value.settle()
    assert await far.rows() == int(answered)


async def test_a_call_that_takes_too_long_is_lost_and_settling_ends_it(far: Far) -> None:
    await far.truth.hold()
    with pytest.raises(Lost) as error:
        await far.database.call(INSERT, 1)
    await error.value.settle()
    assert await far.truth.held() == 0
    await far.truth.release()
    assert await far.rows() == 0


async def test_a_cancelled_call_is_ended_before_anything_else_is_done(far: Far) -> None:
    await far.truth.hold()
    call = asyncio.ensure_future(far.database.call(INSERT, 1))
    await until(far.truth.held, 1, within=20)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await far.database.fetch("SELECT 1")
    assert await far.truth.held() == 0
    await far.truth.release()
    assert await far.rows() == 0


async def test_a_statement_that_the_server_refuses_is_raised_as_it_is_and_keeps_the_connection(
    far: Far,
) -> None:
    for _ in range(3):
        with pytest.raises(asyncpg.DivisionByZeroError):
            await far.database.call("SELECT 1 / 0")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await far.database.fetch("SELECT 1 / 0")
        with pytest.raises(asyncpg.DivisionByZeroError):
            async with far.database.transaction() as connection:
                await connection.execute("SELECT 1 / 0")
    assert len(await far.truth.backends()) == 1


async def test_killed_connections_are_made_anew(far: Far) -> None:
    await far.database.fetch("SELECT 1")
    await far.truth.kill()
    await until(far.truth.backends, [], within=20)
    assert await works_again(far) == 1


async def works_again(far: Far) -> int:
    """Whether it works after at most one more failure."""
    try:
        return len(await far.database.fetch("SELECT 1"))
    except Unavailable:
        return len(await far.database.fetch("SELECT 1"))


async def test_a_network_that_lets_nothing_pass_is_unavailable_within_the_timeout(far: Far) -> None:
    far.network.stop()
    started = time.monotonic()
    with pytest.raises(Unavailable):
        await far.database.fetch("SELECT 1")
    assert time.monotonic() - started < 5 * TIMEOUT
    far.network.resume()
    assert len(await far.database.fetch("SELECT 1")) == 1


async def test_waiting_for_a_connection_ends_with_the_timeout(far: Far) -> None:
    async with far.database.transaction():
        with pytest.raises(Unavailable):
            await far.database.fetch("SELECT 1")
    assert len(await far.database.fetch("SELECT 1")) == 1


async def test_a_closed_database_is_unavailable(far: Far) -> None:
    await far.database.close()
    with pytest.raises(Unavailable):
        await far.database.call("SELECT 1")


@pytest.mark.parametrize("broken", ["wrong password", "nobody there", "no port"])
async def test_no_error_holds_the_password(posts_truth: Truth, broken: str) -> None:
    split = urlsplit(posts_truth.url)
    where = {
        "wrong password": f"{split.hostname}:{split.port}",
        "nobody there": "127.0.0.1:1",
        "no port": "127.0.0.1:p4ss-s3cret",
    }[broken]
    url = f"postgresql://{split.username}:p4ss-s3cret@{where}{split.path}"
    database = FastDatabase(url, pool=1, timeout=TIMEOUT, name="tests")
    with pytest.raises(SampanError) as error:
        await database.fetch("SELECT 1")
    assert "p4ss" not in "".join(traceback.format_exception(error.value, limit=0))
