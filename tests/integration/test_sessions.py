"""Refresh tokens rotate, reuse ends the session, and what has ended counts for nothing within a second."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg
import grpc

from sampan.identity.v1 import identity_service_pb2 as pb
from sampan.identity.v1.events_pb2 import SessionCreated
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from services.mesh.app import App
from services.mesh.tls import channel_credentials, server_name
from services.stack.pki import Pki
from tests.support import faults
from tests.support.errors import reason
from tests.support.waiting import until

PASSWORD = "a good password"


async def somebody(stub: IdentityServiceStub) -> pb.RegisterResponse:
    username = "n" + secrets.token_hex(6)
    return await stub.Register(pb.RegisterRequest(username=username, password=PASSWORD))


def bearer(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


async def me(stub: IdentityServiceStub, token: str) -> str:
    """The reason that GetMe is refused with."""
    return await reason(stub.GetMe(pb.GetMeRequest(), metadata=bearer(token)))


def refresh(stub: IdentityServiceStub, token: str, request_id: str = "") -> object:
    return stub.RefreshToken(pb.RefreshTokenRequest(refresh_token=token, request_id=request_id))


async def test_a_refresh_gives_a_new_pair_that_works(stub: IdentityServiceStub) -> None:
    person = await somebody(stub)
    pair = await refresh(stub, person.refresh_token)
    assert pair.refresh_token != person.refresh_token
    assert await me(stub, pair.access_token) == ""
    again = await refresh(stub, pair.refresh_token)
    assert await me(stub, again.access_token) == ""


async def test_fifty_uses_of_one_refresh_token_give_one_pair_and_then_end_the_session(
    stub: IdentityServiceStub,
) -> None:
    person = await somebody(stub)
    reasons = await asyncio.gather(*(reason(refresh(stub, person.refresh_token)) for _ in range(50)))
    assert reasons.count("") <= 1
    assert set(reasons) <= {"", "REFRESH_TOKEN_REUSED", "SESSION_ENDED"}
    assert "REFRESH_TOKEN_REUSED" in reasons
    await until(lambda: me(stub, person.access_token), "TOKEN_INVALID", within=1.0)


async def test_the_thief_s_and_the_owner_s_tokens_are_both_dead_after_reuse(
    stub: IdentityServiceStub,
) -> None:
    person = await somebody(stub)
    stolen = await refresh(stub, person.refresh_token)
    assert await reason(refresh(stub, person.refresh_token)) == "REFRESH_TOKEN_REUSED"
    assert await reason(refresh(stub, stolen.refresh_token)) == "SESSION_ENDED"
    await until(lambda: me(stub, stolen.access_token), "TOKEN_INVALID", within=1.0)


async def test_a_lost_answer_is_given_again_for_the_same_request_id(stub: IdentityServiceStub) -> None:
    person = await somebody(stub)
    request_id = str(uuid.uuid4())
    first = await refresh(stub, person.refresh_token, request_id)
    pairs = await asyncio.gather(*(refresh(stub, person.refresh_token, request_id) for _ in range(20)))
    assert {(pair.access_token, pair.refresh_token) for pair in pairs} == {
        (first.access_token, first.refresh_token)
    }
    assert await me(stub, first.access_token) == ""


async def test_a_retry_is_reuse_when_the_new_token_was_used_or_time_has_passed(
    stub: IdentityServiceStub, owner: asyncpg.Connection
) -> None:
    person = await somebody(stub)
    request_id = str(uuid.uuid4())
    pair = await refresh(stub, person.refresh_token, request_id)
    await refresh(stub, pair.refresh_token)
    assert await reason(refresh(stub, person.refresh_token, request_id)) == "REFRESH_TOKEN_REUSED"

    late = await somebody(stub)
    await refresh(stub, late.refresh_token, request_id)
    await owner.execute(
        "UPDATE sessions SET rotated_at = rotated_at - interval '61 s' WHERE account_id = $1", late.id
    )
    assert await reason(refresh(stub, late.refresh_token, request_id)) == "REFRESH_TOKEN_REUSED"


async def test_fifty_equal_refreshes_with_one_request_id_have_one_effect(
    stub: IdentityServiceStub, owner: asyncpg.Connection
) -> None:
    person = await somebody(stub)
    request_id = str(uuid.uuid4())
    pairs = await asyncio.gather(*(refresh(stub, person.refresh_token, request_id) for _ in range(50)))
    assert len({pair.SerializeToString() for pair in pairs}) == 1
    assert await owner.fetchval("SELECT generation FROM sessions WHERE account_id = $1", person.id) == 2


async def test_forged_cut_and_expired_refresh_tokens_are_refused_and_harm_nobody(
    stub: IdentityServiceStub, owner: asyncpg.Connection
) -> None:
    person = await somebody(stub)
    good = person.refresh_token
    for token in (
        good[:-2],
        good[:-1] + ("A" if good[-1] != "A" else "B"),
        good + "=",
        "x" * len(good),
        secrets.token_urlsafe(52)[: len(good)],
        "not a token",
    ):
        assert await reason(refresh(stub, token)) == "REFRESH_TOKEN_INVALID", token
    assert await reason(refresh(stub, good)) == ""
    other = await somebody(stub)
    await owner.execute("UPDATE sessions SET refresh_expires_at = now() WHERE account_id = $1", other.id)
    assert await reason(refresh(stub, other.refresh_token)) == "REFRESH_TOKEN_INVALID"


async def test_signing_out_ends_this_session_and_no_other(stub: IdentityServiceStub) -> None:
    person = await somebody(stub)
    login = pb.LoginRequest(username=person.username, password=PASSWORD)
    second = await stub.Login(login)
    await stub.Logout(pb.LogoutRequest(), metadata=bearer(person.access_token))
    await until(lambda: me(stub, person.access_token), "TOKEN_INVALID", within=1.0)
    assert await reason(refresh(stub, person.refresh_token)) == "SESSION_ENDED"
    assert await me(stub, second.access_token) == ""


async def test_sessions_are_listed_and_ended_one_by_one_and_only_one_s_own(stub: IdentityServiceStub) -> None:
    person, stranger = await somebody(stub), await somebody(stub)
    second = await stub.Login(pb.LoginRequest(username=person.username, password=PASSWORD))
    metadata = bearer(person.access_token)
    listed = (await stub.ListSessions(pb.ListSessionsRequest(), metadata=metadata)).sessions
    assert len(listed) == 2
    assert [session.current for session in listed] == [False, True]
    assert all(session.device.startswith("grpc") for session in listed)
    request = pb.DeleteSessionRequest(id=listed[0].id)
    foreign = stub.DeleteSession(request, metadata=bearer(stranger.access_token))
    assert await reason(foreign) == "NOT_FOUND"
    assert await me(stub, second.access_token) == ""
    await stub.DeleteSession(request, metadata=metadata)
    await until(lambda: me(stub, second.access_token), "TOKEN_INVALID", within=1.0)
    assert await reason(stub.DeleteSession(request, metadata=metadata)) == "NOT_FOUND"


async def test_a_new_password_ends_all_other_sessions(stub: IdentityServiceStub) -> None:
    person = await somebody(stub)
    second = await stub.Login(pb.LoginRequest(username=person.username, password=PASSWORD))
    metadata = bearer(person.access_token)
    wrong = pb.ChangePasswordRequest(old_password="not this", new_password="another good one")
    assert await reason(stub.ChangePassword(wrong, metadata=metadata)) == "INVALID_CREDENTIALS"
    right = pb.ChangePasswordRequest(old_password=PASSWORD, new_password="another good one")
    await stub.ChangePassword(right, metadata=metadata)
    await until(lambda: me(stub, second.access_token), "TOKEN_INVALID", within=1.0)
    assert await me(stub, person.access_token) == ""
    old = stub.Login(pb.LoginRequest(username=person.username, password=PASSWORD))
    assert await reason(old) == "INVALID_CREDENTIALS"


@asynccontextmanager
async def on_device(name: str, address: str, pki: Pki) -> AsyncIterator[IdentityServiceStub]:
    """Identity, as a device of this name calls it."""
    edge = pki.identity("edge")
    credentials = channel_credentials(edge.certificate, edge.key, edge.ca)
    options = (
        ("grpc.ssl_target_name_override", server_name("identity")),
        ("grpc.primary_user_agent", name),
    )
    async with grpc.aio.secure_channel(address, credentials, options) as channel:
        yield IdentityServiceStub(channel)


async def told_of(owner: asyncpg.Connection, user_id: str) -> list[tuple[bool, bool]]:
    """Of each sign-in of a person: whether it was the first, and whether the device was known."""
    rows = await owner.fetch(
        "SELECT payload FROM outbox WHERE subject = 'sampan.identity.session.created' ORDER BY id"
    )
    said = [SessionCreated.FromString(row["payload"]) for row in rows]
    return [(one.first_session, one.device_known) for one in said if one.account_id == user_id]


async def test_twenty_sign_ins_at_once_on_a_new_device_find_it_new_once(
    stub: IdentityServiceStub, identity: tuple[App, str], pki: Pki, owner: asyncpg.Connection
) -> None:
    person = await somebody(stub)
    request = pb.LoginRequest(username=person.username, password=PASSWORD)
    async with on_device("Pixel 10", identity[1], pki) as there:
        await asyncio.gather(*(there.Login(request) for _ in range(20)))
    await stub.Login(request)
    told = await told_of(owner, person.id)
    assert Counter(told) == {(True, False): 1, (False, False): 1, (False, True): 20}
    assert told[0] == (True, False)


async def test_a_sign_in_that_failed_leaves_its_device_new(
    stub: IdentityServiceStub, identity: tuple[App, str], pki: Pki, owner: asyncpg.Connection, tmp_path: Path
) -> None:
    person = await somebody(stub)
    request = pb.LoginRequest(username=person.username, password=PASSWORD)
    async with on_device("Pixel 11", identity[1], pki) as there:
        with faults.here(tmp_path), faults.armed(tmp_path, "identity.login.before_commit", "raise"):
            assert await reason(there.Login(request)) == "INTERNAL"
        await there.Login(request)
    assert await told_of(owner, person.id) == [(True, False), (False, False)]
