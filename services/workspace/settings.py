"""Settings and limits of workspace: SAMPAN_WORKSPACE_<NAME>."""

from __future__ import annotations

from pydantic import Field, ValidationInfo, field_validator
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import DatabaseSettings


class WorkspaceSettings(DatabaseSettings):
    """What every service has, limits, and how long messaging is waited for."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_WORKSPACE_", env_file=".env", extra="ignore", frozen=True
    )

    # People in one workspace.
    max_members: int = Field(default=10_000, ge=1)
    # Channels of one workspace.
    max_channels: int = Field(default=1_000, ge=1)
    # Invites of one workspace that still work.
    max_invites: int = Field(default=1_000, ge=1)
    # Workspaces that one person is in.
    max_workspaces: int = Field(default=500, ge=1)
    # Seconds that one call to messaging may take.
    tell_seconds: float = Field(default=3.0, gt=0, le=5)
    # Seconds that whoever tells messaging keeps others from it; longer than one call.
    lease_seconds: float = Field(default=8.0, gt=0)
    # Seconds that a call waits for another one that is telling messaging of the same thing.
    patience_seconds: float = Field(default=3.0, gt=0)
    # How often to look for what messaging was not told, in seconds.
    sweep_seconds: float = Field(default=5.0, gt=0)
    # Days that an invite is kept after it has expired.
    invite_keep_days: int = Field(default=7, ge=0)

    @field_validator("lease_seconds")
    @classmethod
    def _longer_than_a_call(cls, given: float, info: ValidationInfo) -> float:
        if given <= info.data.get("tell_seconds", 0.0):
            raise ValueError("lease_seconds must be longer than tell_seconds")
        return given
