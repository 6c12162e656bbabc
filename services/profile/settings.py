"""Settings and limits of profile: SAMPAN_PROFILE_<NAME>."""

from __future__ import annotations

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import ServiceSettings


class ProfileSettings(ServiceSettings):
    """What every service has, and the key of bank details."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_PROFILE_", env_file=".env", extra="ignore", frozen=True
    )

    database_url: SecretStr
    # 32 bytes in base64; wraps the key of each person and signs page tokens.
    master_key: SecretStr
