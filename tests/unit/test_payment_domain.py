"""Rules of payment: fees, limits, and how requests are told from one another."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.payment.domain import CURRENCIES, TIME_ZONES, FeeRule, Hold, HoldStatus, Wallet
from services.payment.keys import RequestKeys
from services.payment.settings import TIERS, PaymentSettings
from tests.support.mesh import make_pki, settings_of

NOW = datetime(2026, 1, 1, tzinfo=UTC)
AMOUNTS = st.integers(1, 10**15)


@given(AMOUNTS, st.integers(0, 10**6), st.integers(0, 10_000))
def test_a_fee_is_its_fixed_part_and_its_share_to_half_a_unit(amount: int, fixed: int, points: int) -> None:
    fee = FeeRule(fixed, points).of(amount)
    assert abs((fee - fixed) * 10_000 - amount * points) <= 5_000
    assert fee >= fixed


@given(AMOUNTS)
def test_by_default_nothing_costs_anything(amount: int) -> None:
    assert FeeRule().of(amount) == 0


def a_wallet(**changed: int) -> Wallet:
    given = {"balance": 100, "held": 30, "spent_today": 10, "daily_limit": 50, **changed}
    return Wallet(
        id=uuid.uuid4(),
        owner=uuid.uuid4(),
        currency="THB",
        kyc_tier=0,
        suspended=False,
        time_zone="Asia/Bangkok",
        created_at=NOW,
        **given,
    )


def test_what_is_held_cannot_be_spent_and_a_limit_that_was_lowered_leaves_nothing() -> None:
    assert (a_wallet().available, a_wallet().left_today) == (70, 40)
    assert a_wallet(spent_today=60).left_today == 0


@pytest.mark.parametrize(
    ("status", "left"), [("pending", 60), ("captured", 0), ("voided", 0), ("expired", 0)]
)
def test_only_a_pending_hold_holds_anything(status: str, left: int) -> None:
    payer, payee = uuid.uuid4(), uuid.uuid4()
    ids = (uuid.uuid4() for _ in range(3))
    hold = Hold(*ids, payer, payee, 100, 40, "THB", HoldStatus(status), str(payer), NOW, NOW, None)
    assert hold.remaining == left
    assert hold.concerns(payer)
    assert hold.concerns(payee)
    assert not hold.concerns(uuid.uuid4())


@given(
    st.lists(
        st.tuples(st.text(), st.sampled_from(["Send", "Refund"]), st.uuids()),
        min_size=2,
        max_size=2,
        unique=True,
    )
)
def test_different_requests_have_different_keys(requests: list[tuple[str, str, uuid.UUID]]) -> None:
    keys = RequestKeys(b"k" * 32)
    one, other = (keys.key(caller, method, str(given)) for caller, method, given in requests)
    assert one != other


@given(st.uuids())
def test_a_request_id_counts_in_whatever_form_it_is_written(given: uuid.UUID) -> None:
    keys = RequestKeys(b"k" * 32)
    assert keys.key("a", "b", str(given)) == keys.key("a", "b", str(given).upper())
    assert keys.key("a", "b", "") is None
    assert RequestKeys(b"x" * 32).key("a", "b", str(given)) != keys.key("a", "b", str(given))


def test_every_currency_has_days_and_limits(tmp_path_factory: pytest.TempPathFactory) -> None:
    settings = made(tmp_path_factory)
    assert set(settings.daily_limits) == set(CURRENCIES) == set(TIME_ZONES)
    assert all(len(limits) == TIERS for limits in settings.daily_limits.values())
    assert settings.daily_limits["THB"][0] >= 500_000


def made(tmp_path_factory: pytest.TempPathFactory, **more: object) -> PaymentSettings:
    given = settings_of("payment", make_pki(tmp_path_factory.mktemp("pki")))
    return PaymentSettings(**given, database_url="postgresql://x", master_key="x", **more)


@pytest.mark.parametrize(
    "wrong",
    [
        {"daily_limits": {"THB": [1, 2, 3]}},
        {"daily_limits": {"THB": [4, 3, 2, 1]}},
        {"daily_limits": {"THB": [-1, 0, 0, 0]}},
        {"daily_limits": {"EUR": [1, 2, 3, 4]}},
        {"fees": {"EUR": {"fixed": 1}}},
        {"fees": {"THB": {"fixed": -1}}},
        {"fees": {"THB": {"basis_points": 10_001}}},
    ],
)
def test_settings_that_make_no_sense_keep_the_service_from_starting(
    tmp_path_factory: pytest.TempPathFactory, wrong: dict[str, object]
) -> None:
    with pytest.raises(ValidationError):
        made(tmp_path_factory, **wrong)
