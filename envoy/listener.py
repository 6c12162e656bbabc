"""The one port of the edge: HTTP/1.1 and HTTP/2, plain or TLS, and what is taken from a stranger."""

from __future__ import annotations

import socket

from envoy.clusters import BUFFER_LIMIT, CONNECTION_WINDOW, STREAM_WINDOW
from envoy.filters import http_filters
from envoy.local_replies import local_reply_config
from envoy.routes import route_config
from envoy.settings import EdgeSettings
from envoy.tracing import tracing
from envoy.typed import EXTENSIONS, Config, extension, socket_address, typed

# What only the mesh itself may say.
OWN_PREFIXES = ("x-envoy-", "x-sampan-")
OWN_HEADERS = (
    "x-http-code",
    "x-problem",
    "x-request-id",
    "x-forwarded-host",
    "x-forwarded-client-cert",
    "x-real-ip",
    "forwarded",
)
FORWARDED_FOR = "x-forwarded-for"


def listener(settings: EdgeSettings) -> Config:
    chain: Config = {"filters": [_http_connection_manager(settings)]}
    if settings.tls_cert_file and settings.tls_key_file:
        chain["transport_socket"] = _tls(str(settings.tls_cert_file), str(settings.tls_key_file))
    return {
        "name": "edge",
        "address": socket_address(settings.listen_host, settings.listen_port),
        "per_connection_buffer_limit_bytes": BUFFER_LIMIT,
        "socket_options": _gone(settings.keepalive_seconds, settings.patience_seconds),
        "filter_chains": [chain],
    }


def _gone(keepalive: int, patience: int) -> list[Config]:
    """When the kernel gives up who has vanished without a word: HTTP/1.1 has no ping of its own.

    Who is there and takes nothing looks the same to it, so it must be as patient as with a slow reader.
    Connections inherit this from the listener. Linux only knows all of them.
    """
    tcp, wanted = socket.IPPROTO_TCP, {"TCP_KEEPIDLE": keepalive, "TCP_KEEPINTVL": max(1, keepalive // 4)}
    wanted |= {"TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 1000 * patience}
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    options += [
        (tcp, getattr(socket, name), value) for name, value in wanted.items() if hasattr(socket, name)
    ]
    return [
        {"level": level, "name": name, "int_value": value, "state": "STATE_LISTENING"}
        for level, name, value in options
    ]


def _tls(certificate: str, key: str) -> Config:
    pair = {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.DownstreamTlsContext",
        common_tls_context={
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_params": {"tls_minimum_protocol_version": "TLSv1_2"},
            "tls_certificates": [pair],
        },
    )


def _http_connection_manager(settings: EdgeSettings) -> Config:
    return extension(
        "envoy.filters.network.http_connection_manager",
        "filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="edge",
        codec_type="AUTO",
        route_config=route_config(settings),
        http_filters=http_filters(settings),
        local_reply_config=local_reply_config(settings),
        access_log=[_access_log(settings)],
        **(tracing(settings, settings.collector) if settings.collector else {}),
        **_trust(settings),
        **_paths(),
        **_limits(settings.keepalive_seconds),
    )


def _trust(settings: EdgeSettings) -> Config:
    """Who the client is, is what we see or what our own proxies say."""
    believed = () if settings.trusted_hops else (FORWARDED_FOR,)
    prefixes = [{"remove_on_match": {"key_matcher": {"prefix": prefix}}} for prefix in OWN_PREFIXES]
    names = [{"remove": name} for name in (*OWN_HEADERS, *believed)]
    return {
        "use_remote_address": True,
        "xff_num_trusted_hops": settings.trusted_hops,
        "early_header_mutation_extensions": [
            extension(
                "envoy.http.early_header_mutation.header_mutation",
                "http.early_header_mutation.header_mutation.v3.HeaderMutation",
                mutations=[*prefixes, *names],
            )
        ],
        "generate_request_id": True,
        "always_set_request_id_in_response": True,
        # The request id is also the trace id: no bits of it may be changed.
        "request_id_extension": {
            "typed_config": typed(
                EXTENSIONS + "request_id.uuid.v3.UuidRequestIdConfig", pack_trace_reason=False
            )
        },
        "server_name": "sampan",
    }


def _paths() -> Config:
    return {
        "normalize_path": True,
        "merge_slashes": True,
        "path_with_escaped_slashes_action": "REJECT_REQUEST",
    }


def _limits(keepalive: int) -> Config:
    return {
        "max_request_headers_kb": 32,
        "request_headers_timeout": "10s",
        # Between two bytes of one call; live streams have no such limit (routes.py).
        "stream_idle_timeout": "300s",
        "common_http_protocol_options": {"idle_timeout": "3600s", "max_headers_count": 100},
        "http2_protocol_options": {
            "max_concurrent_streams": 1024,
            "initial_stream_window_size": STREAM_WINDOW,
            "initial_connection_window_size": CONNECTION_WINDOW,
            "connection_keepalive": {"interval": f"{keepalive}s", "timeout": f"{keepalive}s"},
        },
    }


def _access_log(settings: EdgeSettings) -> Config:
    """One JSON line a call. No query string, no token and no address of a person ever stands in it."""
    log_format = {
        "json_format": {
            "time": "%START_TIME%",
            "method": "%REQ(:METHOD)%",
            "path": "%PATH(NQ:ORIG_OR_PATH):512%",
            "route": "%ROUTE_NAME%",
            "protocol": "%PROTOCOL%",
            "status": "%RESPONSE_CODE%",
            "grpc_status": "%GRPC_STATUS_NUMBER%",
            "duration_ms": "%DURATION%",
            "details": "%RESPONSE_CODE_DETAILS%",
            "flags": "%RESPONSE_FLAGS%",
            "upstream": "%UPSTREAM_CLUSTER%",
            "request_id": "%REQ(X-REQUEST-ID)%",
            "trace_id": "%DYNAMIC_METADATA(sampan:trace_id)%",
        }
    }
    if settings.access_log is None:
        return extension(
            "envoy.access_loggers.stdout", "access_loggers.stream.v3.StdoutAccessLog", log_format=log_format
        )
    return extension(
        "envoy.access_loggers.file",
        "access_loggers.file.v3.FileAccessLog",
        path=str(settings.access_log),
        log_format=log_format,
    )
