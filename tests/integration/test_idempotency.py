"""Equal requests with one `request_id` have one effect and one answer, whatever is cut between."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import asyncpg
import grpc
import pytest
from google.protobuf.message import Message

from sampan.identity.v1 import identity_service_pb2 as pb
from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from sampan.notification.v1.notification_internal_service_pb2_grpc import NotificationInternalServiceStub
from sampan.payment.v1.payment_internal_service_pb2_grpc import PaymentInternalServiceStub
from sampan.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from sampan.presence.v1.presence_service_pb2_grpc import PresenceServiceStub
from sampan.profile.v1.profile_service_pb2_grpc import ProfileServiceStub
from services.identity.keyring import KeyRing
from services.mesh import logs
from services.mesh.database import Database
from services.mesh.idempotency import Sweeper
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support import faults
from tests.support.chat import Talkers, talkers
from tests.support.databases import (
    Clone,
    identity_app,
    messaging_app,
    notification_app,
    payment_app,
    presence_app,
    profile_app,
    workspace_app,
)
from tests.support.errors import reason
from tests.support.mailbox import Mailbox
from tests.support.mesh import Minter, channel_as, serving
from tests.support.mutation import Mutation, World
from tests.support.mutations import (
    MUTATIONS,
    NO_OTHER,
    ONE_ROUND_TRIP,
    PASSWORD,
    SIGNED_IN,
    name,
    new_id,
    phone,
    registered,
)
from tests.support.proxy import Cut, Proxy, proxy_before
from tests.support.stack import Stack
from tests.support.workspace import QUICK, MessagingPlayed, people_of

# What says nothing of the request itself, and how often it is said again then.
_NOT_TOLD = (grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.UNAVAILABLE)
_TRIES = 5


@dataclass(frozen=True)
class Behind:
    """A world whose services reach PostgreSQL through a proxy."""

    world: World
    proxy: Proxy


def through(proxy: Proxy, clone: Clone) -> Clone:
    """The database behind the proxy."""
    return replace(clone, runtime_url=proxy.url(clone.runtime_url))


@asynccontextmanager
async def people_behind(
    proxy: Proxy, clone: Clone, identity: str, minter: Minter, accounts: Clone, pki: Pki
) -> AsyncIterator[Talkers]:
    """People whose messaging reaches PostgreSQL through the proxy."""
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": [identity]})
    url = proxy.url(clone.runtime_url)
    app = await messaging_app(clone, pki, mesh, minter, database_url=url)
    async with (
        serving(app, mesh) as address,
        channel_as("edge", address, "messaging", pki) as edge,
        channel_as("workspace", address, "messaging", pki) as workspace,
        talkers(edge, workspace, minter, accounts.owner_url) as people,
    ):
        yield people


@pytest.fixture(scope="module")
async def behind(
    stack: Stack,
    identity_database: Clone,
    profile_database: Clone,
    presence_database: Clone,
    messaging_database: Clone,
    notification_database: Clone,
    workspace_database: Clone,
    payment_database: Clone,
    messaging_played: tuple[MessagingPlayed, str],
    pki: Pki,
) -> AsyncIterator[Behind]:
    minter = Minter()
    databases = (
        identity_database,
        profile_database,
        notification_database,
        presence_database,
        messaging_database,
        workspace_database,
        payment_database,
    )
    async with AsyncExitStack() as closing:
        enter = closing.enter_async_context
        proxy = await enter(proxy_before(identity_database.runtime_url))
        notifying = await enter(serving(await notification_app(through(proxy, notification_database), pki)))
        peers = {
            "notification": [notifying],
            "identity": ["127.0.0.1:1"],
            "messaging": [messaging_played[1]],
            "payment": ["127.0.0.1:1"],
        }
        mesh = MeshSettings(rate_limit_scale=10_000, peers=peers)
        identity = await identity_app(through(proxy, identity_database), pki, mesh)
        profile = await profile_app(through(proxy, profile_database), pki, mesh, minter)
        urls = {
            "redis_url": stack.addresses.redis("presence"),
            "nats_url": stack.addresses.nats("presence"),
        }
        presence = await presence_app(through(proxy, presence_database), pki, mesh, minter, **urls)
        present = await enter(serving(presence, mesh))
        payment = await payment_app(through(proxy, payment_database), pki, mesh, minter)
        paying = await enter(serving(payment, mesh))
        workspace = await workspace_app(through(proxy, workspace_database), pki, mesh, minter, **QUICK)
        workspaces = await enter(people_of(workspace, await enter(serving(workspace, mesh)), pki))
        identifying = await enter(serving(identity, mesh))
        profiling = await enter(serving(profile, mesh))
        operator = await enter(channel_as("operator", notifying, "notification", pki))
        owners = [await asyncpg.connect(one.owner_url) for one in databases]
        for owner in owners:
            closing.push_async_callback(owner.close)
        people = await enter(
            people_behind(proxy, messaging_database, identifying, minter, identity_database, pki)
        )
        world = World(
            IdentityServiceStub(await enter(channel_as("edge", identifying, "identity", pki))),
            IdentityInternalServiceStub(await enter(channel_as("operator", identifying, "identity", pki))),
            ProfileServiceStub(await enter(channel_as("edge", profiling, "profile", pki))),
            NotificationInternalServiceStub(
                await enter(channel_as("identity", notifying, "notification", pki))
            ),
            NotificationInternalServiceStub(operator),
            PresenceServiceStub(await enter(channel_as("edge", present, "presence", pki))),
            PaymentServiceStub(await enter(channel_as("edge", paying, "payment", pki))),
            PaymentInternalServiceStub(await enter(channel_as("identity", paying, "payment", pki))),
            PaymentInternalServiceStub(await enter(channel_as("operator", paying, "payment", pki))),
            PaymentInternalServiceStub(await enter(channel_as("commerce", paying, "payment", pki))),
            minter,
            *owners,
            Mailbox(operator),
            people,
            workspaces,
        )
        yield Behind(world, proxy)


@pytest.fixture
def world(behind: Behind) -> World:
    return behind.world


@pytest.fixture(params=MUTATIONS)
async def mutation(request: pytest.FixtureRequest, world: World) -> Mutation:
    """A request, by the name of its method; tests that not all fit choose theirs."""
    return await MUTATIONS[request.param](world)


def is_logout(request: pytest.FixtureRequest) -> bool:
    """Whose token counts for nothing as soon as the end of its session is heard."""
    return "Logout" in request.node.name


async def answers(mutation: Mutation, request_id: str, count: int, *, ended: bool) -> set[bytes]:
    """The different answers to equal requests at the same time.

    Each waits for the first, and of fifty some may be over their deadline on a slow machine: they ask again.
    """
    sent = (answered(lambda: mutation.send(request_id)) for _ in range(count))
    done = await asyncio.gather(*sent, return_exceptions=True)
    failed = [one for one in done if not isinstance(one, Message)]
    if ended:
        failed = [one for one in failed if await reason(_raise(one)) != "TOKEN_INVALID"]
    assert not failed, failed[0]
    return {one.SerializeToString(deterministic=True) for one in done if isinstance(one, Message)}


async def answered(send: Callable[[], Awaitable[Message]]) -> Message:
    """The answer of a client that says the same again as long as it is not told what became of it."""
    for _ in range(_TRIES):
        try:
            return await send()
        except grpc.aio.AioRpcError as error:
            if error.code() not in _NOT_TOLD:
                raise
    return await send()


async def _raise(error: BaseException) -> None:
    raise error


async def test_fifty_equal_requests_have_one_effect_and_one_answer(
    mutation: Mutation, request: pytest.FixtureRequest
) -> None:
    before, request_id = await mutation.count(), new_id()
    first = await answers(mutation, request_id, 50, ended=is_logout(request))
    assert len(first) == 1
    again = await answers(mutation, request_id, 1, ended=is_logout(request))
    assert again <= first
    assert await mutation.count() == mutation.after(before)


@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if one not in NO_OTHER], indirect=True)
async def test_other_input_under_the_same_id_is_refused_and_has_no_effect(mutation: Mutation) -> None:
    assert mutation.other is not None
    before, request_id = await mutation.count(), new_id()
    await mutation.send(request_id)
    assert await reason(mutation.other(request_id)) == mutation.refusal
    assert await mutation.count() == mutation.after(before)


@pytest.mark.parametrize("mutation", SIGNED_IN, indirect=True)
async def test_the_same_id_of_somebody_else_is_another_request(mutation: Mutation) -> None:
    assert mutation.elsewhere is not None
    request_id = new_id()
    await mutation.send(request_id)
    assert await reason(mutation.elsewhere(request_id)) == ""


# One statement of many callers, which finds out by itself what became of it: see test_messaging_faults.
@pytest.mark.parametrize("mutation", [one for one in MUTATIONS if one not in ONE_ROUND_TRIP], indirect=True)
@pytest.mark.parametrize("answered", [False, True], ids=["before", "after"])
async def test_a_connection_cut_at_the_commit_leaves_one_effect_after_a_retry(
    mutation: Mutation, behind: Behind, request: pytest.FixtureRequest, *, answered: bool
) -> None:
    before, request_id = await mutation.count(), new_id()
    # Statements are prepared: only values are said each time.
    behind.proxy.cut_when = cut = Cut((uuid.UUID(request_id).bytes, b"COMMIT"), answered)
    assert await reason(mutation.send(request_id)) == "OUTCOME_UNKNOWN"
    assert cut.done == 1
    first = await answers(mutation, request_id, 5, ended=is_logout(request))
    assert len(first) == 1 or (answered and is_logout(request))
    assert await mutation.count() == mutation.after(before)


async def test_an_error_is_not_remembered(world: World) -> None:
    taken, request_id = await registered(world), new_id()
    request = pb.RegisterRequest(username=taken.username, password=PASSWORD, request_id=request_id)
    assert await reason(world.identity.Register(request)) == "USERNAME_TAKEN"
    request.username = name()
    assert await reason(world.identity.Register(request)) == ""


async def test_each_wrong_code_costs_a_try_also_under_one_id(world: World) -> None:
    to, request_id = phone(), new_id()
    sent = await world.identity.SendOtp(pb.SendOtpRequest(identifier=to, type="phone"))
    code = await world.mailbox.code(to)
    wrong = f"{(int(code) + 1) % 1_000_000:06}"
    request = pb.VerifyOtpRequest(session_id=sent.session_id, code=wrong, request_id=request_id)
    reasons = await asyncio.gather(*(reason(world.identity.VerifyOtp(request)) for _ in range(20)))
    assert reasons.count("CODE_WRONG") == 5
    assert reasons.count("CODE_SPENT") == 15


async def test_a_code_that_could_not_be_sent_is_sent_by_the_retry(world: World, tmp_path: Path) -> None:
    to, request_id = phone(), new_id()
    request = pb.SendOtpRequest(identifier=to, type="phone", request_id=request_id)
    with faults.here(tmp_path), faults.armed(tmp_path, "identity.send_otp.after_commit", "raise"):
        assert await reason(world.identity.SendOtp(request)) == "INTERNAL"
    assert await world.mailbox.all(to) == []
    answer = await world.identity.SendOtp(request)
    assert len(await world.mailbox.all(to)) == 1
    code = await world.mailbox.code(to)
    verify = pb.VerifyOtpRequest(session_id=answer.session_id, code=code)
    assert await reason(world.identity.VerifyOtp(verify)) == ""


async def test_a_sign_in_is_not_answered_again_once_its_tokens_were_used(world: World) -> None:
    request_id = new_id()
    request = pb.RegisterRequest(username=name(), password=PASSWORD, request_id=request_id)
    made = await world.identity.Register(request)
    await world.identity.RefreshToken(pb.RefreshTokenRequest(refresh_token=made.refresh_token))
    assert await reason(world.identity.Register(request)) == "SESSION_ENDED"


async def test_no_token_and_no_password_lies_in_the_table(world: World) -> None:
    request = pb.RegisterRequest(username=name(), password=PASSWORD, request_id=new_id())
    made = await world.identity.Register(request)
    row = await world.identity_owner.fetchrow(
        "SELECT * FROM idempotency WHERE request_id = $1", uuid.UUID(request.request_id)
    )
    assert row is not None
    assert (row["caller"], row["method"]) == ("", "sampan.identity.v1.IdentityService/Register")
    assert len(row["result"]) == 16
    said = b"".join(value if isinstance(value, bytes) else str(value).encode() for value in row.values())
    for secret in (made.access_token, made.refresh_token, PASSWORD, made.username):
        assert secret.encode() not in said


async def test_what_is_older_than_it_is_kept_is_forgotten(world: World, identity_database: Clone) -> None:
    ids = [new_id(), new_id()]
    for request_id in ids:
        await world.identity.Register(
            pb.RegisterRequest(username=name(), password=PASSWORD, request_id=request_id)
        )
    old = "UPDATE idempotency SET created_at = now() - interval '49 hours' WHERE request_id = $1"
    await world.identity_owner.execute(old, uuid.UUID(ids[0]))
    database = Database(identity_database.runtime_url, pool=1, timeout=5, name="tests")
    try:
        assert await Sweeper(database, 48, logs.logger("tests")).once() == 1
    finally:
        await database.close()
    left = "SELECT count(*) FROM idempotency WHERE request_id = $1"
    assert [await world.identity_owner.fetchval(left, uuid.UUID(one)) for one in ids] == [0, 1]


async def test_the_same_pair_is_derived_also_after_the_signing_key_was_replaced(
    identity_database: Clone, pki: Pki
) -> None:
    ahead = [0.0]
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"notification": ["127.0.0.1:1"]})
    app = await identity_app(identity_database, pki, mesh, lambda: time.time() + ahead[0])
    keys = app.keys
    assert isinstance(keys, KeyRing)
    async with (
        serving(app, mesh) as address,
        channel_as("edge", address, "identity", pki) as channel,
    ):
        stub = IdentityServiceStub(channel)
        request = pb.RegisterRequest(username=name(), password=PASSWORD, request_id=new_id())
        first = await stub.Register(request)
        old = keys.newest.kid
        await keys.rotate()
        ahead[0] = 200.0
        assert keys.newest.kid != old
        assert await stub.Register(request) == first
