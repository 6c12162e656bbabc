"""The HTTP filters, in the order in which a request meets them."""

from __future__ import annotations

from envoy.clusters import LOOPBACK
from envoy.lua import lua_source
from envoy.routes import (
    BUFFER_FILTER,
    CORS_FILTER,
    GRPC_WEB_FILTER,
    JWT_FILTER,
    LUA_FILTER,
    TRANSCODER_FILTER,
    public_methods,
    transcoder_config,
)
from envoy.settings import EdgeSettings
from envoy.tracing import trace_of_span
from envoy.typed import Config, extension

PROVIDER = "sampan"
JWKS_PATH = "/.well-known/jwks.json"


def http_filters(settings: EdgeSettings) -> list[Config]:
    """Answers pass them in reverse.

    Tokens are checked after the transcoder, so that one rule stands for every door. Lua comes before the
    transcoder, to see its JSON on the way back, and before all that may refuse, to give a refusal its trace.
    """
    return [
        extension(CORS_FILTER, "filters.http.cors.v3.Cors"),
        *([trace_of_span()] if settings.collector else []),
        _lua(settings),
        extension(GRPC_WEB_FILTER, "filters.http.grpc_web.v3.GrpcWeb"),
        _flood_guard(settings),
        extension(BUFFER_FILTER, "filters.http.buffer.v3.Buffer", max_request_bytes=settings.max_body),
        _transcoder(settings),
        _jwt(settings),
        _grpc_stats(settings),
        extension("envoy.filters.http.router", "filters.http.router.v3.Router", suppress_envoy_headers=True),
    ]


def _lua(settings: EdgeSettings) -> Config:
    source = {"inline_string": lua_source(settings)}
    return extension(LUA_FILTER, "filters.http.lua.v3.Lua", default_source_code=source)


def _flood_guard(settings: EdgeSettings) -> Config:
    rate = settings.flood_per_second
    always = {"default_value": {"numerator": 100}}
    return extension(
        "envoy.filters.http.local_ratelimit",
        "filters.http.local_ratelimit.v3.LocalRateLimit",
        stat_prefix="flood",
        token_bucket={"max_tokens": rate, "tokens_per_fill": rate, "fill_interval": "1s"},
        filter_enabled=always,
        filter_enforced=always,
    )


def _transcoder(settings: EdgeSettings) -> Config:
    return {"name": TRANSCODER_FILTER, "typed_config": transcoder_config(settings)}


def _jwt(settings: EdgeSettings) -> Config:
    """Every route needs a token unless it says otherwise. It goes along: services check it again."""
    scheme = "https" if settings.tls_cert_file else "http"
    jwks = {
        "http_uri": {
            "uri": f"{scheme}://localhost:{settings.listen_port}{JWKS_PATH}",
            "cluster": LOOPBACK,
            "timeout": "2s",
        },
        "cache_duration": "60s",
        # The keys come through this very listener: it must not wait for them.
        "async_fetch": {"fast_listener": True, "failed_refetch_duration": "0.5s"},
    }
    provider = {
        "issuer": settings.issuer,
        "audiences": [settings.audience],
        "remote_jwks": jwks,
        "forward": True,
        "require_expiration": True,
        "clock_skew_seconds": 1,
        "from_headers": [{"name": "authorization", "value_prefix": "Bearer "}],
        "jwt_cache_config": {"jwt_cache_size": 2048},
    }
    return extension(
        JWT_FILTER,
        "filters.http.jwt_authn.v3.JwtAuthentication",
        providers={PROVIDER: provider},
        rules=[{"match": {"prefix": "/"}, "requires": {"provider_name": PROVIDER}}],
        bypass_cors_preflight=True,
        strip_failure_response=True,
    )


def _grpc_stats(settings: EdgeSettings) -> Config:
    """Counts known methods only: a stranger who makes up names must not grow our memory."""
    names: dict[str, list[str]] = {}
    for _, method in public_methods(settings):
        names.setdefault(method.service, []).append(method.name)
    allowed = {"services": [{"name": name, "method_names": methods} for name, methods in names.items()]}
    return extension(
        "envoy.filters.http.grpc_stats",
        "filters.http.grpc_stats.v3.FilterConfig",
        individual_method_stats_allowlist=allowed,
        enable_upstream_stats=True,
    )
