"""What a process and its services are told by environment variables, stated once with their defaults."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import AliasChoices, Field, SecretStr, ValidationInfo, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


class MeshSettings(BaseSettings):
    """Settings of the whole process: SAMPAN_<NAME>."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_", env_file=".env", extra="ignore", frozen=True, populate_by_name=True
    )

    environment: Literal["development", "production"] = "development"
    # Name and address of every service, as the topology says.
    peers: dict[str, list[str]] = Field(default_factory=dict)
    # Host and port of the servers that have no contract of ours.
    parts: dict[str, tuple[str, int]] = Field(default_factory=dict)
    # Multiplies calls-per-time limits only; load tests raise it.
    rate_limit_scale: float = Field(default=1.0, gt=0, le=1_000_000)
    # Seconds that a call waits for Redis to say whether there is room; after that this process counts alone.
    rate_limit_timeout: float = Field(default=0.05, gt=0, le=10)
    # Who issues access tokens and for whom: claims `iss` and `aud`.
    token_issuer: str = "sampan"  # noqa: S105 - a name, not a secret
    token_audience: str = "sampan"  # noqa: S105 - a name, not a secret
    # Clocks of different machines may differ by this many seconds.
    token_leeway: float = Field(default=5.0, ge=0, le=60)
    # So long payment and admins are served without hearing which sessions have ended.
    revocations_silent_seconds: float = Field(default=30.0, ge=5)
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    # Calls slower than this many seconds are logged, and one in `log_sample` of the others.
    log_slow_seconds: float = Field(default=0.5, gt=0)
    log_sample: int = Field(default=100, ge=1)
    # Where the process tells its metrics: host and port; nowhere when empty.
    metrics_listen: str = ""
    # The collector of traces: OTLP over gRPC. Without one no span is made.
    otlp_endpoint: str = Field(
        default="",
        validation_alias=AliasChoices("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"),
    )
    # After NOT_SERVING: seconds that balancers get to notice, and that running calls get to end.
    drain_notice_seconds: float = Field(default=3.0, ge=0)
    drain_grace_seconds: float = Field(default=10.0, ge=0)
    # Ids of consumed events are kept longer than events in the outbox, and these longer than on the bus, so
    # that nothing that comes again has its effect again.
    event_stream_days: int = Field(default=3, ge=1, le=365)
    outbox_keep_days: int = Field(default=7, ge=1, le=365)
    inbox_keep_days: int = Field(default=14, ge=1, le=730)
    # The stream of each context: its size in bytes, at most, and its copies in a cluster.
    event_stream_bytes: int = Field(default=512 << 20, ge=1 << 20)
    event_stream_replicas: int = Field(default=1, ge=1, le=5)
    # How often a relay looks for what other processes wrote, and for the lock; its own process wakes it.
    relay_poll_seconds: float = Field(default=2.0, gt=0, le=60)
    # An event of whose consumer nothing was heard for this long is delivered again. Who works on one says so
    # three times as often.
    event_ack_seconds: float = Field(default=3.0, ge=1, le=300)
    # One question of a consumer stands this long: an idle one costs few messages in that time.
    event_pull_seconds: float = Field(default=30.0, ge=1, le=300)
    # A handler may take this long to learn what an event means; then it has failed.
    event_handle_seconds: float = Field(default=8.0, gt=0, le=300)
    # Events that a consumer which takes several together takes at once, at most.
    events_together: int = Field(default=64, ge=1, le=500)
    # Tries before an event is parked, and the waits between them, which double up to the ceiling.
    event_tries: int = Field(default=5, ge=1, le=100)
    event_retry_first_seconds: float = Field(default=0.5, gt=0)
    event_retry_ceiling_seconds: float = Field(default=10.0, gt=0)
    # Folder in which tests arm fault points; see faults.py. Never in production.
    faults: Path | None = None

    @field_validator("faults")
    @classmethod
    def _never_in_production(cls, given: Path | None, info: ValidationInfo) -> Path | None:
        if given is not None and info.data.get("environment") != "development":
            raise ValueError("fault points are for tests: not with SAMPAN_ENVIRONMENT=production")
        return given

    @model_validator(mode="after")
    def _ids_outlive_events(self) -> MeshSettings:
        if not self.event_stream_days < self.outbox_keep_days < self.inbox_keep_days:
            raise ValueError("event_stream_days < outbox_keep_days < inbox_keep_days must hold")
        return self


class ServiceSettings(BaseSettings):
    """Settings that every service has: SAMPAN_<SERVICE>_<NAME>; a service's subclass sets the prefix."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", frozen=True)

    # Address of the gRPC server; port 0 picks a free one.
    listen: str = "127.0.0.1:0"
    # Certificate with SPIFFE URI and DNS name, its key, and the authority that callers must come from.
    tls_cert: Path
    tls_key: Path
    tls_ca: Path
    # One request, in bytes.
    max_request_bytes: int = Field(default=1_048_576, ge=1024)
    redis_url: SecretStr | None = None
    nats_url: SecretStr | None = None


class DatabaseSettings(ServiceSettings):
    """Settings that every service with a database has, besides."""

    database_url: SecretStr
    # 32 bytes in base64; everything that the service encrypts, or hashes with a key, hangs on it.
    master_key: SecretStr
    # Connections to the database, at most.
    database_pool: int = Field(default=8, ge=1, le=100)
    # Seconds to wait for a connection or for the server to answer one statement.
    database_timeout: float = Field(default=4.0, gt=0)
    # How long the answer to a `request_id` is remembered.
    idempotency_keep_hours: int = Field(default=48, ge=24, le=24 * 366)
