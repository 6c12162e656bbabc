"""Settings and limits of profile: SAMPAN_PROFILE_<NAME>."""

from __future__ import annotations

from pydantic_settings import SettingsConfigDict

from services.mesh.settings import DatabaseSettings


class ProfileSettings(DatabaseSettings):
    """What every service with a database has."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_PROFILE_", env_file=".env", extra="ignore", frozen=True
    )
