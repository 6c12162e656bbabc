"""What the edge is told: where it listens, whom it reaches, and its limits."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

LOCAL_ORIGINS = (r"https?://localhost(:[0-9]+)?", r"https?://127\.0\.0\.1(:[0-9]+)?")


@dataclass(frozen=True, slots=True)
class Upstream:
    """A service of the mesh: its public protobuf services, where it runs, and the DNS name it must prove."""

    name: str
    public: tuple[str, ...]
    addresses: tuple[tuple[str, int], ...]
    server_name: str


@dataclass(frozen=True, slots=True)
class WebSockets:
    """A path whose WebSockets go to a listener of a service's own, which speaks HTTP/1.1 over mTLS."""

    path: str
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Collector:
    """Where spans go, as OTLP over gRPC; over TLS where there is an authority to trust."""

    host: str
    port: int
    ca_file: Path | None = None
    headers: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class EdgeSettings:
    """Everything that differs between two edges. Sizes are bytes, rates are per second.

    `descriptors` is read here and by Envoy. `ca_file`, `cert_file` and `key_file` are for mTLS with the
    services; `secret_file` holds what `render_secret` says, by which Envoy follows when they are renewed;
    `tls_cert_file` and `tls_key_file` for the listener, which speaks plain text without them.
    `cors_origins` are regular expressions (RE2) that must match the whole Origin. `trusted_hops` is how many
    proxies in front of the edge write a true X-Forwarded-For; with 0 nobody's is believed.
    `flood_per_second` guards the edge as a whole; limits per person and address are the services'.
    Who is asked every `keepalive_seconds` and does not answer within as many is gone; over HTTP/1.1, where
    nobody can be asked, who takes no byte for `patience_seconds`.
    Without `access_log` the log goes to stdout. `trace_percent` is the share of calls whose trace is kept;
    where it is kept is `collector`, and without one nowhere.
    """

    listen_host: str
    listen_port: int
    admin_host: str
    admin_port: int
    descriptors: Path
    upstreams: tuple[Upstream, ...]
    ca_file: Path
    cert_file: Path
    key_file: Path
    secret_file: Path
    reflection: Upstream | None = None
    websockets: tuple[WebSockets, ...] = ()
    issuer: str = "sampan"
    audience: str = "sampan"
    cors_origins: tuple[str, ...] = LOCAL_ORIGINS
    max_body: int = 1_048_576
    trusted_hops: int = 0
    flood_per_second: int = 5_000
    max_connections: int = 120_000
    keepalive_seconds: int = 20
    patience_seconds: int = 300
    trace_percent: int = 1
    collector: Collector | None = None
    tls_cert_file: Path | None = None
    tls_key_file: Path | None = None
    access_log: Path | None = None
