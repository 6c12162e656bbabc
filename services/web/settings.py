"""Settings of web: SAMPAN_WEB_<NAME>."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import ServiceSettings


class WebSettings(ServiceSettings):
    """Times in seconds."""

    model_config = SettingsConfigDict(env_prefix="SAMPAN_WEB_", env_file=".env", extra="ignore", frozen=True)

    # How long one part may take to answer before it counts as down.
    probe_timeout: float = Field(default=1.0, gt=0, le=10)
    # An answer about health may be this old; many who ask at once cause one round of questions.
    health_max_age: float = Field(default=0.5, ge=0, le=60)
