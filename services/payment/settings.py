"""Settings and limits of payment: SAMPAN_PAYMENT_<NAME>."""

from __future__ import annotations

from pydantic import Field, field_validator
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import DatabaseSettings
from services.payment.domain import CURRENCIES

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

    # Currency of all bills; what it is changed to counts for new ones, so set it before there are any.
    bills_currency: str = Field(default="THB", pattern=f"^({'|'.join(CURRENCIES)})$")
    # What one person's pending bills come to at most, in minor units.
    bills_cap: int = Field(default=100_000, ge=1)

    @field_validator("daily_limits")
    @classmethod
    def _all_of_them(cls, given: dict[str, list[int]]) -> dict[str, list[int]]:
        merged = _DAILY | given
        if set(merged) != set(CURRENCIES) or any(
            len(one) != TIERS or min(one) < 0 or sorted(one) != one for one in merged.values()
        ):
            raise ValueError(f"daily_limits must have {TIERS} rising amounts for known currencies")
        return merged
