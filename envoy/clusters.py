"""Whom the edge reaches: one cluster for each service, over HTTP/2 and mTLS, watched by health checks."""

from __future__ import annotations

from envoy.settings import EdgeSettings, Upstream
from envoy.tracing import collector_cluster
from envoy.typed import EXTENSIONS, Config, discovery, extension, socket_address, typed

# The edge's own listener, where it fetches the keys that tokens are signed with.
LOOPBACK = "edge_loopback"
# The name of the edge's own certificate.
SECRET = "edge_certificate"  # noqa: S105 - a name

STREAM_WINDOW = 65_536
CONNECTION_WINDOW = 1_048_576
# As large as HTTP/2 has it: that of thirty thousand streams.
SHARED_WINDOW = 2**31 - 1
BUFFER_LIMIT = 65_536
HTTP2 = {
    "initial_stream_window_size": STREAM_WINDOW,
    # What a slow reader does not take yet counts against the connection that it shares with all others: it
    # must never be used up, which each stream's own window sees to.
    "initial_connection_window_size": SHARED_WINDOW,
    "connection_keepalive": {"interval": "30s", "timeout": "10s"},
}


def clusters(settings: EdgeSettings) -> list[Config]:
    upstreams = [*settings.upstreams, *([settings.reflection] if settings.reflection else [])]
    collector = [collector_cluster(settings.collector)] if settings.collector else []
    return [
        *(_service(settings, upstream) for upstream in upstreams),
        *(_sockets(settings, sockets.upstream) for sockets in settings.websockets),
        _loopback(settings),
        *collector,
    ]


def _service(settings: EdgeSettings, upstream: Upstream) -> Config:
    return {
        **_reached(settings, upstream, "h2"),
        "typed_extension_protocol_options": _protocol({"http2_protocol_options": HTTP2}),
        "health_checks": [_health_check({"grpc_health_check": {"service_name": ""}})],
        "circuit_breakers": _circuit_breakers(connections=4_096),
    }


def _sockets(settings: EdgeSettings, upstream: Upstream) -> Config:
    """A WebSocket has a connection to itself."""
    return {
        **_reached(settings, upstream, "http/1.1"),
        "typed_extension_protocol_options": _protocol({"http_protocol_options": {}}),
        # Each costs a handshake.
        "health_checks": [_health_check({"http_health_check": {"path": "/healthz"}}, interval="2.2s")],
        "circuit_breakers": _circuit_breakers(connections=120_000),
    }


def _reached(settings: EdgeSettings, upstream: Upstream, protocol: str) -> Config:
    return {
        "name": upstream.name,
        "type": discovery(host for host, _ in upstream.addresses),
        "connect_timeout": "1s",
        "lb_policy": "ROUND_ROBIN",
        "per_connection_buffer_limit_bytes": BUFFER_LIMIT,
        "load_assignment": _endpoints(upstream.name, upstream.addresses),
        "transport_socket": _mtls(settings, upstream.server_name, protocol),
        "outlier_detection": _outlier_detection(),
        # With every endpoint called ill, trying one beats refusing everybody: the check itself may be late.
        # What a check finds counts at once: Envoy's default gathers that for up to a second, in which calls
        # still go to a replica that has said goodbye.
        "common_lb_config": {"healthy_panic_threshold": {"value": 1}, "update_merge_window": "0s"},
    }


def _endpoints(name: str, addresses: tuple[tuple[str, int], ...]) -> Config:
    endpoints = [{"endpoint": {"address": socket_address(host, port)}} for host, port in addresses]
    return {"cluster_name": name, "endpoints": [{"lb_endpoints": endpoints}]}


def _mtls(settings: EdgeSettings, server_name: str, protocol: str) -> Config:
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        sni=server_name,
        common_tls_context={
            "alpn_protocols": [protocol],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificate_sds_secret_configs": [
                {
                    "name": SECRET,
                    "sds_config": {
                        "resource_api_version": "V3",
                        "path_config_source": {"path": str(settings.secret_file)},
                    },
                }
            ],
            "validation_context": {
                "trusted_ca": {"filename": str(settings.ca_file)},
                "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": server_name}}],
            },
        },
    )


def secret(settings: EdgeSettings) -> Config:
    """The edge's own certificate, read again whenever a file is put into its folder."""
    return typed(
        EXTENSIONS + "transport_sockets.tls.v3.Secret",
        name=SECRET,
        tls_certificate={
            "certificate_chain": {"filename": str(settings.cert_file)},
            "private_key": {"filename": str(settings.key_file)},
            "watched_directory": {"path": str(settings.cert_file.parent)},
        },
    )


def _protocol(options: Config) -> Config:
    name = EXTENSIONS + "upstreams.http.v3.HttpProtocolOptions"
    return {name: typed(name, explicit_http_config=options)}


def _health_check(question: Config, interval: str = "2s") -> Config:
    """One check finds a replica that drains, well within the notice that it gives before it stops.

    What it answers counts at once; only silence has to come twice.
    """
    return {
        "timeout": "2s",
        "interval": interval,
        "interval_jitter": "0.05s",
        "unhealthy_interval": "0.25s",
        "no_traffic_interval": interval,
        # Whoever is called for the first time while it stops is found out by that: a call that finds nobody
        # there is sent to another one.
        "no_traffic_healthy_interval": "10s",
        "unhealthy_threshold": 2,
        "healthy_threshold": 1,
        **question,
    }


def _outlier_detection() -> Config:
    """Ejects endpoints that cannot be reached. What a service answers never counts against it."""
    return {
        "split_external_local_origin_errors": True,
        "consecutive_local_origin_failure": 5,
        "enforcing_consecutive_5xx": 0,
        "enforcing_consecutive_gateway_failure": 0,
        "enforcing_success_rate": 0,
        "enforcing_failure_percentage": 0,
        "enforcing_local_origin_success_rate": 0,
        "interval": "1s",
        "base_ejection_time": "1s",
        "max_ejection_time": "10s",
        "max_ejection_percent": 50,
    }


def _circuit_breakers(*, connections: int) -> Config:
    """Room for a hundred thousand live streams; the default of 1024 is for request and answer."""
    return {
        "thresholds": [
            {
                "max_connections": connections,
                "max_pending_requests": 20_000,
                "max_requests": 200_000,
                "max_retries": 256,
            }
        ]
    }


def _loopback(settings: EdgeSettings) -> Config:
    host = _reachable_host(settings.listen_host)
    cluster: Config = {
        "name": LOOPBACK,
        "type": "STATIC",
        "connect_timeout": "1s",
        "load_assignment": _endpoints(LOOPBACK, ((host, settings.listen_port),)),
    }
    if settings.tls_cert_file:
        # Our own certificate is the only one accepted, so its name need not be that of the loopback.
        validation = {"trusted_ca": {"filename": str(settings.tls_cert_file)}}
        cluster["transport_socket"] = extension(
            "envoy.transport_sockets.tls",
            "transport_sockets.tls.v3.UpstreamTlsContext",
            common_tls_context={"validation_context": validation},
        )
    return cluster


def _reachable_host(host: str) -> str:
    """Where a listener on every address is reached from inside."""
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
