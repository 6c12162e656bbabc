"""Settings and limits of identity: SAMPAN_IDENTITY_<NAME>."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import DatabaseSettings


class IdentitySettings(DatabaseSettings):
    """Times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_IDENTITY_", env_file=".env", extra="ignore", frozen=True
    )

    access_token_seconds: int = Field(default=900, ge=30, le=86_400)
    refresh_token_seconds: int = Field(default=7 * 86_400, ge=60)
    # argon2id; the defaults are the first recommendation of OWASP.
    argon2_memory_kib: int = Field(default=19_456, ge=8)
    argon2_passes: int = Field(default=2, ge=1)
    argon2_lanes: int = Field(default=1, ge=1)
    # Passwords hashed at once; each takes a core for some 20 ms.
    password_threads: int = Field(default=2, ge=1, le=64)
    # Accounts that claim the same unproven e-mail or phone and are tried at a sign-in by it, newest first.
    unproven_claims_tried: int = Field(default=3, ge=1, le=10)
    # A refresh token may be spent again with the same request_id for this long.
    refresh_retry_seconds: int = Field(default=60, ge=0, le=600)
    code_seconds: int = Field(default=300, ge=30, le=3600)
    code_tries: int = Field(default=5, ge=1, le=10)
    # Codes sent to one identifier within 24 h.
    codes_per_day: int = Field(default=10, ge=1, le=1000)
    # A new signing key is published this long before it signs: longer than anybody keeps the old JWKS.
    key_notice_seconds: int = Field(default=120, ge=0, le=86_400)
    # How often to look for people of whom payment does not know yet how they stand.
    standing_seconds: float = Field(default=5.0, gt=0, le=60)
    # How often expired codes and revocations are cleared away, and signing keys read anew.
    housekeeping_seconds: float = Field(default=30.0, gt=0)
