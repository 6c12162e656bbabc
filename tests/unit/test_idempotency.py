"""What makes two requests equal."""

from __future__ import annotations

import uuid
from typing import Any

from google.protobuf.message import Message

from sampan.identity.v1 import identity_service_pb2 as pb
from sampan.notification.v1 import notification_internal_service_pb2 as notification
from services.mesh.call import Call, User
from services.mesh.idempotency import Idempotency, Key
from services.mesh.policy import service_methods

ID = "0190A5F0-7B3C-7000-8000-00000000abcd"
IDENTITY = "sampan.identity.v1.IdentityService"
stretched: list[tuple[bytes, bytes]] = []


async def stretch(secret: bytes, salt: bytes) -> bytes:
    stretched.append((secret, salt))
    return secret[::-1]


IDEMPOTENCY = Idempotency(bytes(32), stretch)


def call_of(method: str, service: str = IDENTITY, user: str = "", caller: str = "edge") -> Call:
    call = Call(service_methods(service)[method], {})
    call.caller = caller
    if user:
        call.user = User(user, "session", "token", frozenset(), 0.0)
    return call


async def key_of(request: Message, call: Call, **more: Any) -> Key:
    found = await IDEMPOTENCY.key(request, call, **more)
    assert found is not None
    return found


async def test_a_request_without_an_id_has_no_key() -> None:
    stretched.clear()
    assert await IDEMPOTENCY.key(pb.RegisterRequest(password="p"), call_of("Register")) is None
    assert stretched == []


async def test_without_a_key_nothing_is_asked_of_the_database() -> None:
    nowhere: Any = None
    assert await IDEMPOTENCY.claim(nowhere, None) is None
    assert await IDEMPOTENCY.known(nowhere, None) is None
    await IDEMPOTENCY.keep(nowhere, None, b"")
    await IDEMPOTENCY.forget(nowhere, None)


async def test_the_id_counts_in_any_case_and_not_in_the_hash() -> None:
    call = call_of("Logout", user="u")
    keys = [await key_of(pb.LogoutRequest(request_id=one), call) for one in (ID, ID.lower())]
    assert keys[0] == keys[1]
    assert keys[0].request_id == uuid.UUID(ID)
    other = await key_of(pb.LogoutRequest(request_id=str(uuid.uuid4())), call)
    assert other.request_hash == keys[0].request_hash


async def test_whose_it_is() -> None:
    anonymous = await key_of(pb.LoginRequest(request_id=ID), call_of("Login"))
    person = await key_of(pb.LogoutRequest(request_id=ID), call_of("Logout", user="somebody"))
    internal = call_of("Deliver", "sampan.notification.v1.NotificationInternalService", caller="identity")
    service = await key_of(notification.DeliverRequest(request_id=ID), internal)
    assert [one.caller for one in (anonymous, person, service)] == ["", "somebody", "identity"]
    assert person.method == f"{IDENTITY}/Logout"


async def test_each_field_counts_and_what_stands_in_none() -> None:
    call = call_of("ChangePassword", user="u")
    requests = [
        pb.ChangePasswordRequest(request_id=ID, old_password="a", new_password="bc"),
        pb.ChangePasswordRequest(request_id=ID, old_password="ab", new_password="c"),
        pb.ChangePasswordRequest(request_id=ID, old_password="abc"),
        pb.ChangePasswordRequest(request_id=ID, new_password="abc"),
    ]
    hashes = [(await key_of(request, call)).request_hash for request in requests]
    hashes.append((await key_of(requests[0], call, also="a session")).request_hash)
    assert len(set(hashes)) == len(hashes)


async def test_secrets_are_stretched_with_a_salt_of_the_request_and_verified_ones_left_out() -> None:
    stretched.clear()
    request = pb.LoginRequest(request_id=ID, username="u", password="hidden")
    await key_of(request, call_of("Login"))
    request.request_id = str(uuid.uuid4())
    await key_of(request, call_of("Login"))
    assert all(b"hidden" in secret for secret, _ in stretched)
    assert len({salt for _, salt in stretched}) == 2
    await key_of(request, call_of("Login"), verified=("password",))
    assert len(stretched) == 2
