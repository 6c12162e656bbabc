"""Spans of the edge: which calls have one, what it says, where it goes."""

from __future__ import annotations

from pathlib import Path

from envoy.settings import Collector, EdgeSettings
from envoy.typed import EXTENSIONS, Config, discovery, extension, set_header, socket_address, typed

CLUSTER = "collector"
# How the Lua filter learns the trace of the edge's span; nobody outside may say it.
TRACE_HEADER = "x-sampan-trace"
HTTP_OPTIONS = EXTENSIONS + "upstreams.http.v3.HttpProtocolOptions"
PERSONAL = ("peer.address", "user_agent")


def tracing(settings: EdgeSettings, collector: Collector) -> Config:
    """Settings of the connection manager. A span says no query string, no header and no address."""
    return {
        "tracing": {
            # The tracer's sampler then keeps a share, by the trace id alone, whatever the caller asks.
            "random_sampling": {"value": 100},
            "max_path_tag_length": 0,
            # Envoy says these by itself: who called is a person.
            "custom_tags": [{"tag": tag, "literal": {"value": "-"}} for tag in PERSONAL],
            "operation": "%ROUTE_NAME%",
            "provider": {
                "name": "envoy.tracers.opentelemetry",
                "typed_config": typed(
                    "envoy.config.trace.v3.OpenTelemetryConfig",
                    service_name="edge",
                    grpc_service=_grpc_service(collector),
                    sampler=_sampler(settings.trace_percent),
                ),
            },
        }
    }


def _grpc_service(collector: Collector) -> Config:
    service: Config = {"envoy_grpc": {"cluster_name": CLUSTER}, "timeout": "5s"}
    if collector.headers:
        service["initial_metadata"] = [{"key": key, "value": value} for key, value in collector.headers]
    return service


def _sampler(percent: int) -> Config:
    return extension(
        "envoy.tracers.opentelemetry.samplers.trace_id_ratio_based",
        "tracers.opentelemetry.samplers.v3.TraceIdRatioBasedSamplerConfig",
        sampling_percentage={"numerator": percent, "denominator": "HUNDRED"},
    )


def trace_of_span() -> Config:
    """A filter that tells the next one the trace that the call's span is in."""
    return extension(
        "envoy.filters.http.header_mutation",
        "filters.http.header_mutation.v3.HeaderMutation",
        mutations={"request_mutations": [{"append": set_header(TRACE_HEADER, "%TRACE_ID%")}]},
    )


def collector_cluster(collector: Collector) -> Config:
    endpoint = {"endpoint": {"address": socket_address(collector.host, collector.port)}}
    http2 = typed(HTTP_OPTIONS, explicit_http_config={"http2_protocol_options": {}})
    cluster: Config = {
        "name": CLUSTER,
        "type": discovery([collector.host]),
        "connect_timeout": "1s",
        "load_assignment": {"cluster_name": CLUSTER, "endpoints": [{"lb_endpoints": [endpoint]}]},
        "typed_extension_protocol_options": {HTTP_OPTIONS: http2},
    }
    if collector.ca_file is not None:
        cluster["transport_socket"] = _tls(collector.host, collector.ca_file)
    return cluster


def _tls(host: str, ca_file: Path) -> Config:
    kind = "DNS" if discovery([host]) == "STRICT_DNS" else "IP_ADDRESS"
    validation = {
        "trusted_ca": {"filename": str(ca_file)},
        "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": host}}],
    }
    return extension(
        "envoy.transport_sockets.tls",
        "transport_sockets.tls.v3.UpstreamTlsContext",
        sni=host,
        common_tls_context={"alpn_protocols": ["h2"], "validation_context": validation},
    )
