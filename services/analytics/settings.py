"""Settings of analytics: SAMPAN_ANALYTICS_<NAME>."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import DatabaseSettings


class AnalyticsSettings(DatabaseSettings):
    """What every service with a database has, and how it is rebuilt. Times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_ANALYTICS_", env_file=".env", extra="ignore", frozen=True
    )

    # Days that facts are kept which a rebuild does not need any more; how often to look for older ones.
    fact_days: int = Field(default=30, ge=1)
    forget_seconds: float = Field(default=3600.0, gt=0)
    # How often to look whether the operator wants all of it rebuilt.
    rebuild_poll_seconds: float = Field(default=3.0, gt=0, le=60)
    # People that payment is asked for at once.
    rebuild_page: int = Field(default=1000, ge=1, le=1000)
    # What was rebuilt is put in place by one statement, which may take this long.
    rebuild_timeout: float = Field(default=300.0, gt=0)
