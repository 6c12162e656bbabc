"""What identity decides of tier and status reaches payment: at once, or as soon as it can be told."""

from __future__ import annotations

import asyncio
import secrets
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import asyncpg
import pytest

from sampan.identity.v1 import identity_internal_service_pb2 as operating
from sampan.identity.v1 import identity_service_pb2 as pb
from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub
from sampan.identity.v1.identity_service_pb2_grpc import IdentityServiceStub
from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support.databases import Clone, clone, identity_app
from tests.support.errors import reason
from tests.support.mailbox import Mailbox
from tests.support.mesh import channel_as, serving
from tests.support.money import fund
from tests.support.payment import Payer, Payers, payers
from tests.support.stack import Stack
from tests.support.waiting import until

PASSWORD = "a good password"
NOBODY = "127.0.0.1:1"
# Payment can be reached: the stated time is 2 s, and twice that is for a busy machine.
WITHIN = 4.0

# Whether somebody waits for the end of this transaction.
_WAITS = """
SELECT count(*) > 0 FROM pg_locks
WHERE NOT granted AND locktype = 'transactionid' AND transactionid = pg_current_xact_id()::xid
"""


@dataclass(frozen=True)
class Town:
    """Identity, as people and as the operator see it, and payment."""

    stub: IdentityServiceStub
    operator: IdentityInternalServiceStub
    payers: Payers
    owner: asyncpg.Connection

    async def person(self) -> tuple[pb.RegisterResponse, Payer]:
        """Somebody new, also as payment sees them."""
        made: pb.RegisterResponse = await self.stub.Register(
            pb.RegisterRequest(username="u" + secrets.token_hex(8), password=PASSWORD)
        )
        return made, self.payer(made.id)

    def payer(self, user_id: str) -> Payer:
        """Somebody as payment sees them."""
        return Payer(self.payers.stub, user_id, self.payers.minter.token(user_id))

    async def tier(self, user: str, tier: int) -> operating.Standing:
        """Sets a tier."""
        request = operating.SetKycTierRequest(user=user, kyc_tier=tier)
        answer: operating.SetKycTierResponse = await self.operator.SetKycTier(request)
        return answer.standing

    async def status(self, user: str, status: str, **fields: Any) -> operating.Standing:
        """Suspends or restores somebody."""
        request = operating.SetStatusRequest(user=user, status=status, **fields)
        answer: operating.SetStatusResponse = await self.operator.SetStatus(request)
        return answer.standing


@pytest.fixture(scope="module")
async def people(payment: tuple[App, str], payment_database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    async with payers(*payment, payment_database, pki) as found:
        yield found


async def opened(
    closing: AsyncExitStack, database: Clone, notification: str, paying: str, people: Payers, pki: Pki
) -> Town:
    """A town whose identity looks for payment at an address."""
    enter = closing.enter_async_context
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"notification": [notification], "payment": [paying]})
    address = await enter(serving(await identity_app(database, pki, mesh), mesh))
    owner = await asyncpg.connect(database.owner_url)
    closing.push_async_callback(owner.close)
    return Town(
        IdentityServiceStub(await enter(channel_as("edge", address, "identity", pki))),
        IdentityInternalServiceStub(await enter(channel_as("operator", address, "identity", pki))),
        people,
        owner,
    )


@pytest.fixture(scope="module")
async def town(
    identity_database: Clone,
    notification: tuple[App, str],
    payment: tuple[App, str],
    people: Payers,
    pki: Pki,
) -> AsyncIterator[Town]:
    async with AsyncExitStack() as closing:
        yield await opened(closing, identity_database, notification[1], payment[1], people, pki)


async def test_a_tier_counts_in_the_wallets_when_the_operator_is_answered(town: Town) -> None:
    person, payer = await town.person()
    wallet = await payer.wallet()
    for user, tier, daily in ((person.username, 2, 20_000_000), (person.id, 0, 500_000)):
        standing = await town.tier(user, tier)
        assert (standing.user_id, standing.kyc_tier, standing.status) == (person.id, tier, "active")
        assert (await payer.get(wallet.id)).limits.daily == daily
    assert await reason(town.tier(person.id, 4)) == "INVALID_ARGUMENT"
    assert await reason(town.tier("nobody.at.all", 1)) == "NOT_FOUND"


async def test_a_proven_phone_raises_the_tier_in_the_wallet(town: Town, mailbox: Mailbox) -> None:
    to = "+6681" + str(secrets.randbelow(10**7)).zfill(7)
    sent = await town.stub.SendOtp(pb.SendOtpRequest(identifier=to, type="phone"))
    verifying = pb.VerifyOtpRequest(session_id=sent.session_id, code=await mailbox.code(to))
    user = (await town.stub.VerifyOtp(verifying)).user
    payer = town.payer(user.id)
    wallet = await payer.wallet()

    async def tier() -> int:
        return (await payer.get(wallet.id)).limits.kyc_tier

    await until(tier, user.kyc_tier, within=WITHIN)
    assert user.kyc_tier == 1


async def test_who_is_suspended_pays_nothing_from_the_answer_on_until_restored(town: Town) -> None:
    person, payer = await town.person()
    wallet = await payer.wallet()
    await fund(town.payers.owner, wallet.id, 1_000)
    other, _ = await town.payers.rich(1_000)
    assert (await town.status(person.username, "suspended")).status == "suspended"
    for wanted in (payer.send(wallet, other.id, 1), payer.hold(wallet, other.id, 1), payer.top_up(wallet)):
        assert await reason(wanted) == "ACCOUNT_SUSPENDED"
    assert (await town.status(person.id, "active")).status == "active"
    assert (await payer.send(wallet, other.id, 1)).amount == 1


async def test_who_is_suspended_does_not_sign_in_nor_go_on(town: Town) -> None:
    person, _ = await town.person()
    await town.status(person.id, "suspended")
    login = pb.LoginRequest(username=person.username, password=PASSWORD)
    assert await reason(town.stub.Login(login)) == "ACCOUNT_SUSPENDED"
    refresh = pb.RefreshTokenRequest(refresh_token=person.refresh_token)
    assert await reason(town.stub.RefreshToken(refresh)) == "ACCOUNT_SUSPENDED"
    await town.status(person.id, "active")
    assert (await town.stub.Login(login)).id == person.id
    assert (await town.stub.RefreshToken(refresh)).access_token


async def test_sessions_end_with_a_suspension_when_the_operator_says_so(town: Town) -> None:
    person, _ = await town.person()
    metadata = [("authorization", f"Bearer {person.access_token}")]
    await town.status(person.id, "suspended")
    assert (await town.stub.GetMe(pb.GetMeRequest(), metadata=metadata)).status == "suspended"
    await town.status(person.id, "suspended", end_sessions=True)

    async def me() -> str:
        return await reason(town.stub.GetMe(pb.GetMeRequest(), metadata=metadata))

    await until(me, "TOKEN_INVALID", within=WITHIN)


async def test_a_sign_in_under_way_while_somebody_is_suspended_makes_no_session(town: Town) -> None:
    person, _ = await town.person()
    login = pb.LoginRequest(username=person.username, password=PASSWORD)
    suspending = town.owner.transaction()
    await suspending.start()
    suspend = "UPDATE accounts SET status = 'suspended' WHERE id = $1"
    await town.owner.execute(suspend, uuid.UUID(person.id))
    signing_in = asyncio.ensure_future(reason(town.stub.Login(login)))

    async def waits() -> bool:
        return bool(await town.owner.fetchval(_WAITS))

    await until(waits, True, within=WITHIN)
    await suspending.commit()
    assert await signing_in == "ACCOUNT_SUSPENDED"


async def test_what_payment_could_not_be_told_it_is_told_as_soon_as_it_can_be(
    stack: Stack, notification: tuple[App, str], payment: tuple[App, str], people: Payers, pki: Pki
) -> None:
    """Also by another process: the first one might have died between its commit and the call."""
    async with clone(stack, "identity") as database:
        async with AsyncExitStack() as closing:
            far = await opened(closing, database, notification[1], NOBODY, people, pki)
            person, payer = await far.person()
            wallet = await payer.wallet()
            assert (await far.tier(person.id, 3)).kyc_tier == 3
            assert (await far.status(person.id, "suspended")).status == "suspended"
        assert (await payer.get(wallet.id)).limits.kyc_tier == 0

        async def tier() -> int:
            return (await payer.get(wallet.id)).limits.kyc_tier

        async with AsyncExitStack() as closing:
            await opened(closing, database, notification[1], payment[1], people, pki)
            await until(tier, 3, within=WITHIN)
        assert await reason(payer.send(wallet, str(uuid.uuid4()), 1)) == "ACCOUNT_SUSPENDED"


async def test_payment_keeps_the_newest_of_many_changes_at_once(town: Town) -> None:
    person, payer = await town.person()
    wallet = await payer.wallet()
    await asyncio.gather(*(town.tier(person.id, tier) for tier in (1, 3, 2) * 5))

    async def all_told() -> bool:
        _, told, version = await known_of(town, person.id)
        return told == version

    await until(all_told, True, within=WITHIN)
    wanted = await town.owner.fetchval("SELECT kyc_tier FROM accounts WHERE id = $1", uuid.UUID(person.id))
    assert (await payer.get(wallet.id)).limits.kyc_tier == wanted


async def known_of(town: Town, user_id: str) -> tuple[int, int, int]:
    """The tier that payment knows, and the versions that identity takes for told and has."""
    row = await town.owner.fetchrow(
        "SELECT standing_told, standing_version FROM accounts WHERE id = $1", uuid.UUID(user_id)
    )
    tier = await town.payers.owner.fetchval(
        "SELECT kyc_tier FROM standings WHERE user_id = $1", uuid.UUID(user_id)
    )
    assert row is not None
    return tier, row["standing_told"], row["standing_version"]


async def test_what_changes_nothing_of_the_standing_is_not_told(town: Town) -> None:
    person, _ = await town.person()
    await town.tier(person.id, 0)
    await town.status(person.id, "active")
    assert (await known_of(town, person.id))[1:] == (0, 0)
