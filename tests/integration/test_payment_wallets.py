"""Wallets: one for each currency, shown to their owner only, limited by tier."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator

import pytest

from sampan.payment.v1 import payment_internal_service_pb2 as internal
from services.mesh.app import App
from services.stack.pki import Pki
from tests.support.databases import Clone
from tests.support.errors import reason
from tests.support.payment import Payers, payers


@pytest.fixture(scope="module")
async def people(payment: tuple[App, str], payment_database: Clone, pki: Pki) -> AsyncIterator[Payers]:
    async with payers(*payment, payment_database, pki) as found:
        yield found


async def test_a_new_wallet_is_empty_and_says_what_it_may_send(people: Payers) -> None:
    made = await people.new().wallet("THB")
    assert (made.currency, made.balance, made.held, made.available) == ("THB", 0, 0, 0)
    limits = made.limits
    assert (limits.kyc_tier, limits.daily, limits.spent_today, limits.left_today) == (0, 500_000, 0, 500_000)
    assert limits.time_zone == "Asia/Bangkok"


async def test_a_person_has_one_wallet_of_each_currency(people: Payers) -> None:
    one = people.new()
    made = [await one.wallet(currency) for currency in ("THB", "SGD", "IDR", "MYR", "PHP", "VND", "USD")]
    assert await one.wallets() == made
    assert await reason(one.wallet("THB")) == "WALLET_EXISTS"
    assert await reason(one.wallet("EUR")) == "INVALID_ARGUMENT"


async def test_a_wallet_is_there_for_its_owner_only(people: Payers) -> None:
    one, other = people.new(), people.new()
    made = await one.wallet()
    assert await one.get(made.id) == made
    assert await reason(other.get(made.id)) == "WALLET_NOT_FOUND"
    assert await reason(one.get(str(uuid.uuid4()))) == "WALLET_NOT_FOUND"
    assert await reason(one.get("no id")) == "INVALID_ARGUMENT"
    assert await other.wallets() == []


async def test_what_identity_says_counts_for_wallets_of_before_and_after(people: Payers) -> None:
    one = people.new()
    await one.wallet("THB")
    await people.internal.SetStanding(internal.SetStandingRequest(user_id=one.id, kyc_tier=2, version=7))
    await one.wallet("SGD")
    assert [wallet.limits.kyc_tier for wallet in await one.wallets()] == [2, 2]


async def test_what_identity_said_before_changes_nothing(people: Payers) -> None:
    one = people.new()
    made = await one.wallet()
    for version, tier in ((5, 3), (4, 1), (5, 0)):
        request = internal.SetStandingRequest(user_id=one.id, kyc_tier=tier, version=version)
        await people.internal.SetStanding(request)
    assert (await one.get(made.id)).limits.kyc_tier == 3
