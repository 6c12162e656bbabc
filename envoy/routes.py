"""Where calls go: one route for each gRPC method, one for each REST address, and 404 for all else."""

from __future__ import annotations

from envoy.contract import Binding, Method, read_methods
from envoy.settings import EdgeSettings, Upstream, WebSockets
from envoy.typed import EXTENSIONS, Config, extension, seconds, set_header, typed

REFLECTION_SERVICES = (
    "grpc.reflection.v1.ServerReflection",
    "grpc.reflection.v1alpha.ServerReflection",
)

JWT_FILTER = "envoy.filters.http.jwt_authn"
BUFFER_FILTER = "envoy.filters.http.buffer"
TRANSCODER_FILTER = "envoy.filters.http.grpc_json_transcoder"
CORS_FILTER = "envoy.filters.http.cors"
LUA_FILTER = "envoy.filters.http.lua"
GRPC_WEB_FILTER = "envoy.filters.http.grpc_web"

# Length prefix of a gRPC message: a message of exactly `max_body` bytes still fits.
GRPC_FRAME = 5
# The service answers DEADLINE_EXCEEDED itself; the edge only ends what does not answer at all.
DEADLINE_SLACK = 1.0
# How long nothing may move on a unary call beyond its deadline, as when a body drips in.
IDLE_SLACK = 30.0

# JSON of a message is longer than the message; the transcoder holds a unary answer whole.
MAX_ANSWER = 16_777_216

# CORS only works on routes to a cluster, so what is not there is a cluster that is not there.
NOWHERE = {"cluster": "nowhere", "cluster_not_found_response_code": "NOT_FOUND"}

NO_TOKEN_NEEDED = {JWT_FILTER: typed(EXTENSIONS + "filters.http.jwt_authn.v3.PerRouteConfig", disabled=True)}
UNBUFFERED = {BUFFER_FILTER: typed(EXTENSIONS + "filters.http.buffer.v3.BufferPerRoute", disabled=True)}
OFF = typed("envoy.config.route.v3.FilterConfig", disabled=True)
NOT_TRANSCODED = {TRANSCODER_FILTER: OFF}

ALLOWED_METHODS = "GET,POST,PUT,PATCH,DELETE,OPTIONS"
ALLOWED_HEADERS = (
    "authorization,content-type,accept,x-grpc-web,x-user-agent,grpc-timeout,grpc-accept-encoding,traceparent"
)
EXPOSED_HEADERS = (
    "grpc-status,grpc-message,grpc-status-details-bin,location,retry-after,"
    "ratelimit-limit,ratelimit-remaining,ratelimit-reset,x-request-id"
)


def route_config(settings: EdgeSettings) -> Config:
    return {
        "name": "edge",
        "validate_clusters": False,
        "virtual_hosts": [
            {
                "name": "edge",
                "domains": ["*"],
                "routes": _routes(settings),
                "typed_per_filter_config": {CORS_FILTER: _cors(settings)},
            }
        ],
        # Whoever the edge believes to be the client, and nobody else: services take it as it is.
        "request_headers_to_add": [
            set_header("x-forwarded-for", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT%"),
        ],
    }


def public_methods(settings: EdgeSettings) -> tuple[tuple[Upstream, Method], ...]:
    """Each routed method with the upstream that serves it."""
    return tuple(
        (upstream, method)
        for upstream in settings.upstreams
        for method in read_methods(settings.descriptors, upstream.public)
    )


def _routes(settings: EdgeSettings) -> list[Config]:
    routed = public_methods(settings)
    addresses = [(binding, method) for _, method in routed for binding in method.bindings]
    addresses.sort(key=lambda address: address[0].precedence)
    return [
        *(_grpc_route(settings, upstream, method) for upstream, method in routed),
        *(
            _reflection_route(settings.reflection, name)
            for name in REFLECTION_SERVICES
            if settings.reflection
        ),
        *(_websocket_route(one) for one in settings.websockets),
        *(
            _events_route(settings, binding, method)
            for binding, method in addresses
            if method.server_streaming and not method.client_streaming
        ),
        *(_rest_route(binding, method) for binding, method in addresses),
        _nothing_here("tunnel", {"connect_matcher": {}}),
        _nothing_here("nothing", {"prefix": "/"}),
    ]


def _grpc_route(settings: EdgeSettings, upstream: Upstream, method: Method) -> Config:
    """The real target of a method, for every door: the transcoder turns a REST call into this path.

    Tokens are needed unless the route says otherwise, so a forgotten rule fails closed.
    """
    route: Config = {
        "name": method.full_name,
        "match": {"path": method.path, "headers": [_verb("POST")]},
        "route": {"cluster": upstream.name, "retry_policy": _retry_policy(method), **_time_limits(method)},
        "typed_per_filter_config": {
            **(NO_TOKEN_NEEDED if method.public else {}),
            **(UNBUFFERED if method.client_streaming else _grpc_buffer(settings.max_body)),
        },
    }
    if method.deadline is not None:
        timeout = {"header": {"key": "grpc-timeout", "value": _grpc_timeout(method.deadline)}}
        route["request_headers_to_add"] = [{**timeout, "append_action": "ADD_IF_ABSENT"}]
    return route


def _grpc_buffer(max_body: int) -> Config:
    limit = {"max_request_bytes": max_body + GRPC_FRAME}
    return {BUFFER_FILTER: typed(EXTENSIONS + "filters.http.buffer.v3.BufferPerRoute", buffer=limit)}


def _time_limits(method: Method) -> Config:
    """A route's `max_stream_duration` would go to the service as its deadline, so it stays unset."""
    if method.deadline is None:
        return {"timeout": "0s", **_idle(method)}
    return {
        "timeout": seconds(method.deadline + DEADLINE_SLACK),
        "idle_timeout": seconds(method.deadline + IDLE_SLACK),
    }


def _idle(method: Method) -> Config:
    """A live stream is not cut off because its reader takes nothing: then nothing moves on it at all."""
    return {"idle_timeout": "0s"} if method.live else {}


def _grpc_timeout(deadline: float) -> str:
    return f"{deadline:.0f}S" if deadline == int(deadline) else f"{deadline * 1000:.0f}m"


def _retry_policy(method: Method) -> Config:
    """Mutations are sent again only when they surely never reached a service.

    What may be repeated also is when a replica died over it.
    """
    retry_on = "connect-failure,refused-stream"
    return {
        "retry_on": f"{retry_on},unavailable,cancelled,reset" if method.retry_safe else retry_on,
        "num_retries": 2,
        # Another replica, when there is one.
        "retry_host_predicate": [
            extension(
                "envoy.retry_host_predicates.previous_hosts",
                "retry.host.previous_hosts.v3.PreviousHostsPredicate",
            )
        ],
        "host_selection_retry_max_attempts": "3",
        "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.25s"},
    }


def _reflection_route(reflection: Upstream, service: str) -> Config:
    return {
        "name": service,
        "match": {"prefix": f"/{service}/", "headers": [_verb("POST")]},
        "route": {"cluster": reflection.name, "timeout": "0s"},
        "typed_per_filter_config": {**NO_TOKEN_NEEDED, **UNBUFFERED},
    }


def _rest_route(binding: Binding, method: Method) -> Config:
    """Lets a REST address through to the transcoder, after which the gRPC route counts.

    What the transcoder leaves alone, such as a gRPC call to a REST path, finds nothing here.
    """
    path: Config = {"path": binding.template} if binding.exact else {"safe_regex": {"regex": binding.regex}}
    route: Config = {
        "name": f"{method.full_name} {binding.verb} {binding.template}",
        "match": {**path, "headers": [_verb(binding.verb)]},
        "route": {**NOWHERE, **_idle(method)},
        "typed_per_filter_config": {**NO_TOKEN_NEEDED, **(UNBUFFERED if method.client_streaming else {})},
    }
    told = {
        **({"body": "json"} if binding.json_body else {}),
        **({"answer": "lines"} if method.lines else {}),
    }
    if told:
        route["metadata"] = {"filter_metadata": {LUA_FILTER: told}}
    return route


def _events_route(settings: EdgeSettings, binding: Binding, method: Method) -> Config:
    """The same address for who asks for server-sent events: each message is one event."""
    route = _rest_route(binding, method)
    events = [{"name": "accept", "string_match": {"contains": "text/event-stream", "ignore_case": True}}]
    transcoder = transcoder_config(settings, stream_sse_style_delimited=True)
    return {
        **route,
        "name": f"{route['name']} events",
        "match": {**route["match"], "headers": [*route["match"]["headers"], *events]},
        "typed_per_filter_config": {**route["typed_per_filter_config"], TRANSCODER_FILTER: transcoder},
    }


def _websocket_route(sockets: WebSockets) -> Config:
    """Needs a token as every route does; Lua has taken it out of the address."""
    return {
        "name": f"{sockets.upstream.name} {sockets.path}",
        "match": {"path": sockets.path, "headers": [_verb("GET")]},
        "route": {
            "cluster": sockets.upstream.name,
            "timeout": "0s",
            "idle_timeout": "0s",
            "retry_policy": {"retry_on": "connect-failure", "num_retries": 2},
            "upgrade_configs": [{"upgrade_type": "websocket"}],
        },
        "typed_per_filter_config": {**UNBUFFERED, **NOT_TRANSCODED, GRPC_WEB_FILTER: OFF},
    }


def transcoder_config(settings: EdgeSettings, *, stream_sse_style_delimited: bool = False) -> Config:
    """What the transcoder takes and gives; streams as lines of JSON, or as server-sent events."""
    style = "stream_sse_style_delimited" if stream_sse_style_delimited else "stream_newline_delimited"
    return typed(
        EXTENSIONS + "filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder",
        proto_descriptor=str(settings.descriptors),
        services=[name for upstream in settings.upstreams for name in upstream.public],
        match_unregistered_custom_verb=True,
        # Gives every error a body, which Lua can replace but not add once trailers follow.
        convert_grpc_status=True,
        request_validation_options={
            "reject_unknown_method": True,
            "reject_unknown_query_parameters": True,
            # Else an id in the body would count, and not the one in the path.
            "reject_binding_body_field_collisions": True,
        },
        print_options={
            "always_print_primitive_fields": True,
            "preserve_proto_field_names": True,
            style: True,
        },
        # The buffer filter says 413 first; this only raises the default of one connection buffer.
        max_request_body_size=settings.max_body * 2,
        max_response_body_size=MAX_ANSWER,
    )


def _nothing_here(name: str, match: Config) -> Config:
    return {
        "name": name,
        "match": match,
        "route": NOWHERE,
        "typed_per_filter_config": {**NO_TOKEN_NEEDED, **UNBUFFERED, **NOT_TRANSCODED},
    }


def _verb(verb: str) -> Config:
    return {"name": ":method", "string_match": {"exact": verb}}


def _cors(settings: EdgeSettings) -> Config:
    return typed(
        EXTENSIONS + "filters.http.cors.v3.CorsPolicy",
        allow_origin_string_match=[{"safe_regex": {"regex": origin}} for origin in settings.cors_origins],
        allow_methods=ALLOWED_METHODS,
        allow_headers=ALLOWED_HEADERS,
        expose_headers=EXPOSED_HEADERS,
        max_age="600",
    )
