"""Settings and limits of messaging: SAMPAN_MESSAGING_<NAME>."""

from __future__ import annotations

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from services.mesh.settings import DatabaseSettings


class MessagingSettings(DatabaseSettings):
    """What every service has, the sizes of dialogs, and how messages are written."""

    model_config = SettingsConfigDict(
        env_prefix="SAMPAN_MESSAGING_", env_file=".env", extra="ignore", frozen=True
    )

    # Members of a group and of a channel, at most.
    group_members: int = Field(default=1000, ge=2, le=100_000)
    channel_members: int = Field(default=10_000, ge=2, le=1_000_000)
    # Different emoji under a message, at most.
    reactions: int = Field(default=20, ge=1, le=100)
    # Connections on which batches of messages are written, and so batches at once.
    posting_pool: int = Field(default=3, ge=1, le=50)
    # Messages in a batch, and messages that may wait for one.
    posting_batch: int = Field(default=256, ge=1, le=4096)
    posting_queue: int = Field(default=8192, ge=1)
    # Events older than this are dropped, but never the newest of a dialog; 0 keeps them for ever.
    retention_days: int = Field(default=0, ge=0, le=36_500)
    # How often to look for them, in seconds.
    retention_sweep_seconds: float = Field(default=600.0, gt=0)
    # Connections with which live delivery reads.
    live_pool: int = Field(default=4, ge=1, le=50)
    # Where WebSockets come in from the edge, `host:port`; without it there is no such door.
    websocket_listen: str = ""
    # How often a WebSocket is pinged, in seconds; who takes as long to answer is gone.
    websocket_ping_seconds: float = Field(default=20.0, gt=0, le=300)
    # Live streams of one person in one process, at most.
    user_streams: int = Field(default=20, ge=1, le=10_000)
    # Bytes that wait for one slow stream; over it, it reads what it missed from the log.
    stream_queue_bytes: int = Field(default=192 * 1024, ge=16 * 1024, le=64 << 20)
    # A stream that had nothing to send for this long sends a heartbeat, in seconds.
    heartbeat_seconds: int = Field(default=15, ge=1, le=300)
    # How long Connect waits for a hello, in seconds.
    hello_seconds: float = Field(default=1.0, gt=0, le=10)
    # Frames of one stream in a second, and those of them that are worked on at once.
    frames_per_second: int = Field(default=200, ge=1)
    frames_in_flight: int = Field(default=256, ge=1, le=10_000)
    # How long a resume token is good for.
    resume_days: int = Field(default=30, ge=1, le=365)
    # How long presence believes that a device is here without being told again.
    presence_lease_seconds: int = Field(default=30, ge=3, le=300)
