"""Settings and limits of presence: SAMPAN_PRESENCE_<NAME>."""

from __future__ import annotations

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import DatabaseSettings


class PresenceSettings(DatabaseSettings):
    """What every service has, and how fast people come and go. How long a lease holds its caller says."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_PRESENCE_", env_file=".env", extra="ignore", frozen=True
    )

    redis_url: SecretStr
    nats_url: SecretStr
    # Connections to Redis, at most, and how long a question to it may take, in seconds.
    redis_pool: int = Field(default=8, ge=1, le=100)
    redis_timeout: float = Field(default=1.0, gt=0, le=10)
    # How long somebody stays online whose last device has said goodbye: it may be back at once.
    linger_seconds: float = Field(default=5.0, ge=0, le=60)
    # At most one change of a person is told in so many seconds; the last one wins.
    change_seconds: float = Field(default=1.0, ge=0, le=60)
    # How often to look for leases that have run out, and how many people to look at in one go.
    sweep_seconds: float = Field(default=0.2, gt=0, le=10)
    sweep_batch: int = Field(default=500, ge=1, le=5000)
    # A change that its process did not tell within this time is told by another one.
    claim_seconds: float = Field(default=5.0, gt=0, le=60)
    # After so many days nobody knows when somebody was last seen.
    last_seen_days: int = Field(default=30, ge=1, le=365)
    # A device that is said to be away before its stream is heard of is remembered for so many seconds.
    away_grace_seconds: float = Field(default=10.0, gt=0, le=60)
    # How long the answer to a `request_id` of SetPresence is remembered.
    set_keep_seconds: int = Field(default=600, ge=60, le=86_400)
    # Preferences that this process knows are used for so long after it last asked what has changed, and how
    # often it does. The first bounds how late a change counts anywhere.
    preferences_fresh_seconds: float = Field(default=0.8, gt=0, le=1)
    preferences_poll_seconds: float = Field(default=0.3, gt=0, le=1)
    # How many people's preferences are kept in memory.
    preferences_capacity: int = Field(default=100_000, ge=1)
    # How long messaging may take to say who shares a dialog with whom.
    contacts_timeout: float = Field(default=2.0, gt=0, le=5)

    @model_validator(mode="after")
    def _poll_within_fresh(self) -> PresenceSettings:
        if self.preferences_poll_seconds >= self.preferences_fresh_seconds:
            raise ValueError("preferences_poll_seconds must be less than preferences_fresh_seconds")
        return self
