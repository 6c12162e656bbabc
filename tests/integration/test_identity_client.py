"""What services ask of identity: a good token is never called bad because the answer is not there yet."""

from __future__ import annotations

import asyncio

from sampan.identity.v1.identity_service_pb2 import GetJwksRequest
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from services.mesh.app import App
from services.mesh.clock import system_clock
from services.mesh.errors import Unavailable
from services.mesh.identity_client import IdentityClient
from services.stack.pki import Pki
from tests.support.mesh import channel_as
from tests.support.replicas import peer_as


async def kid_of(address: str, pki: Pki) -> str:
    """The id of a key that identity signs with."""
    async with channel_as("profile", address, "identity", pki) as channel:
        answer = await IdentityServiceStub(channel).GetJwks(GetJwksRequest(), timeout=10)
    return str(answer.keys[0].kid)


async def test_all_that_ask_for_a_key_at_once_get_it(identity: tuple[App, str], pki: Pki) -> None:
    async with peer_as("profile", "identity", pki, identity[1]) as peer:
        kid = await kid_of(identity[1], pki)
        fresh = IdentityClient(peer, system_clock)
        found = await asyncio.gather(*(fresh.find(kid) for _ in range(5)))
    assert None not in found


async def test_a_caller_that_goes_away_does_not_take_the_answer_with_it(
    identity: tuple[App, str], pki: Pki
) -> None:
    async with peer_as("profile", "identity", pki, identity[1]) as peer:
        kid = await kid_of(identity[1], pki)
        fresh = IdentityClient(peer, system_clock)
        gone = asyncio.create_task(fresh.find(kid))
        stays = asyncio.create_task(fresh.find(kid))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays is not None


async def test_while_identity_is_away_no_key_is_called_unknown(pki: Pki) -> None:
    async with peer_as("profile", "identity", pki, "127.0.0.1:1") as peer:
        client = IdentityClient(peer, system_clock)
        for _ in range(3):
            answers = await asyncio.gather(*(client.find("any") for _ in range(3)), return_exceptions=True)
            assert {type(answer) for answer in answers} == {Unavailable}
