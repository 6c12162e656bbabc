"""Which sessions have ended: services hear it from identity, and what they do when it says nothing."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import pytest

from sampan.identity.v1 import identity_service_pb2 as people
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from sampan.payment.v1 import payment_service_pb2 as payments
from sampan.payment.v1.payment_service_pb2_grpc import PaymentServiceStub
from sampan.profile.v1 import profile_service_pb2 as profiles
from sampan.profile.v1.profile_service_pb2_grpc import ProfileServiceStub
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support.databases import Clone, identity_app, payment_app, profile_app
from tests.support.errors import reason
from tests.support.mesh import Minter, channel_as, serving
from tests.support.waiting import until

# Seconds without a word from identity after which payment serves nobody.
SILENT = 5.0


@dataclass
class Three:
    """Identity, and two services that hear from it which sessions have ended."""

    identity: IdentityServiceStub
    profile: ProfileServiceStub
    payment: PaymentServiceStub
    # Who signs as identity does, and identity, for as long as it runs.
    minter: Minter
    running: AsyncExitStack

    async def register(self) -> str:
        """The access token of somebody new."""
        name = "u" + secrets.token_hex(8)
        made = await self.identity.Register(people.RegisterRequest(username=name, password="a good password"))
        return str(made.access_token)

    async def own_profile(self, token: str) -> str:
        """The reason why somebody does not see their profile: before they made one, at best NOT_FOUND."""
        return await reason(self.profile.GetOwnProfile(profiles.GetOwnProfileRequest(), metadata=by(token)))

    async def all_profiles(self, token: str) -> str:
        """The reason why somebody does not see all profiles, which is for administrators."""
        return await reason(self.profile.ListProfiles(profiles.ListProfilesRequest(), metadata=by(token)))

    async def wallets(self, token: str) -> str:
        """The reason why somebody does not see their wallets."""
        return await reason(self.payment.ListWallets(payments.ListWalletsRequest(), metadata=by(token)))


def by(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


@pytest.fixture
async def three(
    identity_database: Clone, profile_database: Clone, payment_database: Clone, pki: Pki
) -> AsyncIterator[Three]:
    async with AsyncExitStack() as closing, AsyncExitStack() as running:
        mesh = MeshSettings(rate_limit_scale=10_000)
        app = await identity_app(identity_database, pki, mesh)
        identity = await running.enter_async_context(serving(app, mesh))
        heard = MeshSettings(
            rate_limit_scale=10_000, peers={"identity": [identity]}, revocations_silent_seconds=SILENT
        )

        async def channel(service: str, address: str) -> Any:
            return await closing.enter_async_context(channel_as("edge", address, service, pki))

        profile = serving(await profile_app(profile_database, pki, heard), heard)
        payment = serving(await payment_app(payment_database, pki, heard), heard)
        yield Three(
            IdentityServiceStub(await channel("identity", identity)),
            ProfileServiceStub(await channel("profile", await closing.enter_async_context(profile))),
            PaymentServiceStub(await channel("payment", await closing.enter_async_context(payment))),
            Minter.of(app),
            running,
        )


async def test_an_ended_session_is_refused_everywhere_within_a_second(three: Three) -> None:
    token = await three.register()
    assert (await three.own_profile(token), await three.wallets(token)) == ("NOT_FOUND", "")
    await three.identity.Logout(people.LogoutRequest(), metadata=by(token))

    async def answers() -> tuple[str, str]:
        return await three.own_profile(token), await three.wallets(token)

    assert await until(answers, ("TOKEN_INVALID", "TOKEN_INVALID"), within=20) < 1


async def test_payment_and_admins_are_refused_when_identity_is_silent_for_long_and_others_are_not(
    three: Three,
) -> None:
    person, admin = three.minter.token(), three.minter.token(roles=["admin"])
    assert (await three.wallets(person), await three.all_profiles(admin)) == ("", "")
    await three.running.aclose()
    # What is heard no more was true a moment ago.
    assert await three.wallets(person) == ""
    await until(lambda: three.wallets(person), "UNAVAILABLE", within=30)
    assert await three.all_profiles(admin) == "UNAVAILABLE"
    assert await three.all_profiles(person) == "PERMISSION_DENIED"
    assert await three.own_profile(person) == "NOT_FOUND"
