"""Settings and limits of payment: SAMPAN_PAYMENT_<NAME>."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import DatabaseSettings
from services.payment.domain import CURRENCIES, FeeRule

TIERS = 4
# What may be sent in a day by tiers 0 to 3, in minor units: 5,000.00 THB and like worth, then 10, 40 and 400
# times that.
_DAILY = {
    "THB": [500_000, 5_000_000, 20_000_000, 200_000_000],
    "SGD": [20_000, 200_000, 800_000, 8_000_000],
    "IDR": [250_000_000, 2_500_000_000, 10_000_000_000, 100_000_000_000],
    "MYR": [70_000, 700_000, 2_800_000, 28_000_000],
    "PHP": [900_000, 9_000_000, 36_000_000, 360_000_000],
    "VND": [4_000_000, 40_000_000, 160_000_000, 1_600_000_000],
    "USD": [15_000, 150_000, 600_000, 6_000_000],
}


class PaymentSettings(DatabaseSettings):
    """What every service has, and limits. Maps are JSON objects by currency."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_PAYMENT_", env_file=".env", extra="ignore", frozen=True
    )

    # What may be sent in a day by KYC tiers 0 to 3, in minor units, by currency.
    daily_limits: dict[str, list[int]] = Field(default_factory=lambda: dict(_DAILY))

    # What a payment costs its sender, by currency: a fixed amount in minor units and basis points of it.
    fees: dict[str, FeeRule] = Field(default_factory=dict)
    # Connections for posting, and as many batches at once: one is committed while the next is made. More
    # of them make batches smaller, and so dearer.
    # Transfers in a batch; how many may wait for one.
    posting_pool: int = Field(default=2, ge=1, le=16)
    posting_batch: int = Field(default=256, ge=1, le=1000)
    posting_queue: int = Field(default=8192, ge=1)
    # Lines of a statement, at most.
    statement_lines: int = Field(default=10_000, ge=1, le=10_000)
    # Seconds after which a hold expires when nobody says otherwise; how often to look for those that have.
    hold_seconds: int = Field(default=604_800, ge=1, le=2_592_000)
    hold_sweep_seconds: float = Field(default=5.0, gt=0, le=60)
    # Transfers of one StreamTransfers call that are under way at once.
    stream_window: int = Field(default=1000, ge=1, le=8192)
    # Currency of all bills; what it is changed to counts for new ones, so set it before there are any.
    bills_currency: str = Field(default="THB", pattern=f"^({'|'.join(CURRENCIES)})$")
    # What one person's pending bills come to at most, in minor units.
    bills_cap: int = Field(default=100_000, ge=1)

    # What one top-up may bring, in minor units, by currency: at first what tier 3 may send in a day.
    top_up_most: dict[str, int] = Field(
        default_factory=lambda: {one: most[-1] for one, most in _DAILY.items()}
    )
    # How long a QR can be paid, in seconds.
    top_up_seconds: float = Field(default=900.0, gt=0, le=86_400)
    # Top-ups that one person may have open.
    top_up_open: int = Field(default=20, ge=1, le=1000)
    # How old a callback may be, in seconds, and how far ahead of our clock.
    callback_tolerance: float = Field(default=300.0, gt=0, le=3600)
    # The sweeper, in seconds: between its rounds at least and at most, and how long a top-up is one's own.
    sweep_seconds: float = Field(default=1.0, gt=0, le=60)
    sweep_idle_seconds: float = Field(default=5.0, gt=0, le=60)
    sweep_lease_seconds: float = Field(default=30.0, gt=0)
    # How long a bank may take to say what it has, in seconds.
    ask_seconds: float = Field(default=5.0, gt=0, le=60)
    # After how long a bank is asked about a payment that has begun; how long after its end a QR expires; how
    # long a bank may be about a payment of which it says that it has no money.
    inquiry_seconds: float = Field(default=5.0, gt=0)
    expiry_grace_seconds: float = Field(default=5.0, ge=0)
    patience_seconds: float = Field(default=900.0, ge=0)
    # The sandbox bank, in development only: the secret of its callbacks in hexadecimal, and its journal.
    sandbox_secret: SecretStr = SecretStr("")
    sandbox_journal: Path | None = None

    @field_validator("top_up_most")
    @classmethod
    def _of_each_currency(cls, given: dict[str, int]) -> dict[str, int]:
        merged = {one: most[-1] for one, most in _DAILY.items()} | given
        # A QR has 13 characters for an amount.
        if set(merged) != set(CURRENCIES) or not all(0 < most < 10**12 for most in merged.values()):
            raise ValueError("top_up_most must have amounts from 1 to 999999999999 for known currencies")
        return merged

    @field_validator("daily_limits")
    @classmethod
    def _all_of_them(cls, given: dict[str, list[int]]) -> dict[str, list[int]]:
        merged = _DAILY | given
        if set(merged) != set(CURRENCIES) or any(
            len(one) != TIERS or min(one) < 0 or sorted(one) != one for one in merged.values()
        ):
            raise ValueError(f"daily_limits must have {TIERS} rising amounts for known currencies")
        return merged

    @field_validator("fees")
    @classmethod
    def _known_and_not_negative(cls, given: dict[str, FeeRule]) -> dict[str, FeeRule]:
        if not set(given) <= set(CURRENCIES):
            raise ValueError("fees must be for known currencies")
        if any(rule.fixed < 0 or not 0 <= rule.basis_points <= 10_000 for rule in given.values()):
            raise ValueError("fees must be 0 or more, and basis_points at most 10000")
        return given
