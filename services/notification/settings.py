"""Settings and limits of notification: SAMPAN_NOTIFICATION_<NAME>."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import DatabaseSettings


class NotificationSettings(DatabaseSettings):
    """Times in seconds."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_NOTIFICATION_",
        env_file=".env",
        extra="ignore",
        frozen=True,
        # What is wrong is said without the values, among which are passwords.
        hide_input_in_errors=True,
    )

    # `outbox` sends nothing: it keeps messages, sealed, for `sampan outbox`. For development.
    sms_provider: Literal["outbox", "http_sms"] = "outbox"
    email_provider: Literal["outbox", "smtp"] = "outbox"

    # E-mail by SMTP. `starttls` and `tls` refuse a server without it or with a bad certificate.
    smtp_host: str = ""
    smtp_port: int = Field(default=587, ge=1, le=65_535)
    smtp_security: Literal["starttls", "tls", "none"] = "starttls"
    # Authority of the server's certificate; default: those that the system trusts.
    smtp_ca: Path | None = None
    smtp_username: str = ""
    smtp_password: SecretStr = SecretStr("")
    # The address that mails come from.
    smtp_from: str = ""

    # SMS over HTTP in the form of Twilio: POST {url}/2010-04-01/Accounts/{account}/Messages.json.
    http_sms_url: str = ""
    http_sms_account: str = ""
    http_sms_token: SecretStr = SecretStr("")
    # The number or name that messages come from.
    http_sms_from: str = ""

    # How long a provider may take for one message.
    provider_timeout: float = Field(default=10.0, gt=0, le=60)
    # Messages handed to providers at once, by one process.
    concurrency: int = Field(default=8, ge=1, le=100)
    # A process that took a message and said nothing for this long is given up: another one sends it.
    lease_seconds: float = Field(default=60.0, gt=0)
    # How often to look for what is due; what this process took itself is sent at once.
    poll_seconds: float = Field(default=1.0, gt=0, le=60)
    # Tries before a message becomes a dead letter. With the waits below they span about an hour.
    max_attempts: int = Field(default=16, ge=1, le=100)
    # Wait after the first failed try; it doubles up to the ceiling. Half of each wait is left to chance.
    retry_first_seconds: float = Field(default=1.0, gt=0)
    retry_ceiling_seconds: float = Field(default=600.0, gt=0)
    # What is being sent when the process is told to stop may take this long to end.
    drain_seconds: float = Field(default=2.0, ge=0, le=30)

    # How long rows are kept: they make a `request_id` count once, and in the outbox they hold the message.
    retention_seconds: int = Field(default=86_400, ge=60)
    # How long dead letters can be replayed.
    dead_retention_seconds: int = Field(default=7 * 86_400, ge=60)
    # How often to delete what is older.
    sweep_seconds: float = Field(default=60.0, gt=0)

    @model_validator(mode="after")
    def _complete(self) -> NotificationSettings:
        """A provider without its address would lose messages one by one; better not to start."""
        needed = {
            "smtp": ("smtp_host", "smtp_from"),
            "http_sms": ("http_sms_url", "http_sms_account", "http_sms_token", "http_sms_from"),
        }
        for provider in (self.sms_provider, self.email_provider):
            for name in needed.get(provider, ()):
                value = getattr(self, name)
                if not (value.get_secret_value() if isinstance(value, SecretStr) else value):
                    raise ValueError(f"provider {provider} needs SAMPAN_NOTIFICATION_{name.upper()}")
        if self.lease_seconds <= self.provider_timeout:
            raise ValueError("lease_seconds must be longer than provider_timeout, or messages are sent twice")
        return self
