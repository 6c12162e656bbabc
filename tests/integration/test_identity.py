"""Identity on its real database, behind the production chain."""

from __future__ import annotations

import asyncio
import base64
import secrets
import time
from datetime import timedelta

import asyncpg
import bcrypt
import grpc
import pytest

from sampan.identity.v1 import identity_service_pb2 as pb
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from services.identity.keyring import KeyRing
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency
from services.mesh.settings import MeshSettings
from services.mesh.vault import Vault
from services.stack.pki import Pki
from tests.support.databases import Clone, identity_app


def name() -> str:
    return "n" + secrets.token_hex(6)


async def refused(call: object) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await call  # type: ignore[misc]
    return raised.value.code()


async def test_fifty_registrations_of_one_name_make_one_account(stub: IdentityServiceStub) -> None:
    request = pb.RegisterRequest(username=name(), password="a good password")
    done = await asyncio.gather(*(stub.Register(request) for _ in range(50)), return_exceptions=True)
    assert sum(isinstance(one, pb.RegisterResponse) for one in done) == 1
    failed = [one.code() for one in done if isinstance(one, grpc.aio.AioRpcError)]
    assert set(failed) == {grpc.StatusCode.ALREADY_EXISTS}


async def test_nothing_is_left_of_a_registration_that_failed(
    stub: IdentityServiceStub, owner: asyncpg.Connection
) -> None:
    taken = name()
    await stub.Register(pb.RegisterRequest(username=taken, password="a good password"))
    before = await owner.fetchval("SELECT count(*) FROM sessions")
    again = pb.RegisterRequest(username=taken, password="a good password", email="x@example.com")
    await refused(stub.Register(again))
    assert await owner.fetchval("SELECT count(*) FROM sessions") == before
    assert await owner.fetchval("SELECT count(*) FROM identifiers") == 0


async def test_an_old_bcrypt_hash_is_accepted_and_upgraded(
    stub: IdentityServiceStub, owner: asyncpg.Connection
) -> None:
    username = name()
    await stub.Register(pb.RegisterRequest(username=username, password="a good password"))
    old = bcrypt.hashpw(b"an old password", bcrypt.gensalt(4)).decode()
    await owner.execute("UPDATE accounts SET password_hash = $1 WHERE username = $2", old, username)
    await stub.Login(pb.LoginRequest(username=username, password="an old password"))
    found = await owner.fetchval("SELECT password_hash FROM accounts WHERE username = $1", username)
    assert found.startswith("$argon2id$")
    await stub.Login(pb.LoginRequest(username=username, password="an old password"))


async def test_a_suspended_account_cannot_sign_in_and_only_the_right_password_says_so(
    stub: IdentityServiceStub, owner: asyncpg.Connection
) -> None:
    username = name()
    await stub.Register(pb.RegisterRequest(username=username, password="a good password"))
    await owner.execute("UPDATE accounts SET status = 'suspended' WHERE username = $1", username)
    right = stub.Login(pb.LoginRequest(username=username, password="a good password"))
    assert await refused(right) is grpc.StatusCode.PERMISSION_DENIED
    wrong = stub.Login(pb.LoginRequest(username=username, password="another password"))
    assert await refused(wrong) is grpc.StatusCode.UNAUTHENTICATED


async def test_two_people_may_claim_one_unproven_address_and_each_signs_in_as_themselves(
    stub: IdentityServiceStub,
) -> None:
    email = f"{name()}@example.com"
    ids = []
    for number in range(2):
        made = await stub.Register(
            pb.RegisterRequest(username=name(), password=f"password number {number}", email=email)
        )
        ids.append(made.id)
    for number in range(2):
        done = await stub.Login(pb.LoginRequest(email=email, password=f"password number {number}"))
        assert done.id == ids[number]


async def test_addresses_and_numbers_lie_encrypted(
    stub: IdentityServiceStub, owner: asyncpg.Connection
) -> None:
    email, phone = f"{name()}@canary.example", "+66898765432"
    made = await stub.Register(
        pb.RegisterRequest(username=name(), password="a good password", email=email, phone=phone)
    )
    for table in ("accounts", "identifiers", "sessions", "person_keys"):
        for row in await owner.fetch(f"SELECT * FROM {table}"):  # noqa: S608
            for value in row.values():
                shown = value if isinstance(value, bytes) else str(value).encode()
                assert email.encode() not in shown
                assert phone.encode() not in shown
    await owner.execute("DELETE FROM person_keys WHERE account_id = $1", made.id)
    done = await stub.Login(pb.LoginRequest(username=made.username, password="a good password"))
    assert (done.user.email, done.user.phone) == ("", "")


async def test_exactly_one_identifier_is_needed(stub: IdentityServiceStub) -> None:
    for request in (
        pb.LoginRequest(password="x"),
        pb.LoginRequest(username="a", email="a@example.com", password="x"),
    ):
        assert await refused(stub.Login(request)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_text_with_nul_is_invalid(stub: IdentityServiceStub) -> None:
    request = pb.RegisterRequest(username=name(), password="a good password", display_name="a\0b")
    assert await refused(stub.Register(request)) is grpc.StatusCode.INVALID_ARGUMENT
    login = pb.LoginRequest(username="a\0b", password="a good password")
    assert await refused(stub.Login(login)) is grpc.StatusCode.INVALID_ARGUMENT


async def test_several_processes_that_start_at_once_agree_on_one_signing_key(
    identity_database: Clone, owner: asyncpg.Connection, pki: Pki
) -> None:
    await owner.execute("DELETE FROM signing_keys")
    apps = await asyncio.gather(*(identity_app(identity_database, pki, MeshSettings()) for _ in range(4)))
    assert await owner.fetchval("SELECT count(*) FROM signing_keys") == 1
    assert len({app.keys.newest.kid for app in apps}) == 1  # type: ignore[attr-defined]
    for app in apps:
        for close in app.closers:
            await close()


async def test_a_new_signing_key_signs_after_its_notice_and_the_old_one_goes_when_its_tokens_have(
    identity_database: Clone, pki: Pki
) -> None:
    database = Database(identity_database.runtime_url, pool=1, timeout=5, name="tests")
    now = time.time() + 10
    vault = Vault(base64.b64decode(identity_database.master_key))
    ring = KeyRing(
        database,
        vault,
        Idempotency(vault.derive("idempotency")),
        lambda: now,
        notice=timedelta(seconds=120),
        token_life=timedelta(seconds=900),
    )
    await ring.load()
    old = ring.newest
    new = await ring.rotate()
    assert ring.newest.kid == old.kid
    assert [key.kid for key in ring.all] == [new.kid, old.kid]
    now += 121
    assert ring.newest.kid == new.kid
    assert await ring.find(old.kid) is not None
    now += 901
    assert [key.kid for key in ring.all] == [new.kid]
    assert await ring.find(old.kid) is None
    await database.close()
