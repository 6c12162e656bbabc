"""What the edge says when it answers itself: one table from cause to error of services.mesh.errors."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from http import HTTPStatus

from envoy.routes import public_methods
from envoy.settings import EdgeSettings
from envoy.typed import Config, extension, set_header
from services.mesh import errors
from services.mesh.problem import problem, rpc_status

# A trace id that W3C forbids: the Lua filter puts the true one in its place.
NO_TRACE = "0" * 32
# Beside a second operator, what is not known (before the filters ran) is an empty string, not null.
NOTHING = "%DYNAMIC_METADATA(sampan:nothing)%"
TRACE_OPERATOR = "%DYNAMIC_METADATA(sampan:trace_id)%" + NOTHING
PATH_OPERATOR = "%PATH(NQ:ORIG_OR_PATH):256%" + NOTHING
# The transcoder refuses a query parameter before it rewrites the request, and a bad value after.
UNKNOWN_QUERY = (
    'response.code_details.startsWith("early_grpc_json_transcode_failure")'
    ' && !("x-envoy-original-path" in request.headers)'
)
REASON_HEADER = "x-sampan-reason"
PLAIN_HEADER = "x-sampan-plain"
HEALTH_METHOD = "sampan.web.v1.WebService.GetHealth"


@dataclass(frozen=True, slots=True)
class Cause:
    """Why the edge answers itself (CEL over Envoy's attributes), and the error that callers see.

    `http` is set where REST keeps a more exact status than the error's own.
    """

    when: str
    error: errors.SampanError
    http: int | None = None

    @property
    def status(self) -> int:
        return self.http or errors.status_of(type(self.error)).http


def _denied(why: str) -> str:
    return f'response.code_details.startsWith("jwt_authn_access_denied{{{why}")'


def causes(settings: EdgeSettings) -> tuple[Cause, ...]:
    """First match wins; the last one matches everything."""
    return (
        Cause(_denied("Jwt_is_missing"), errors.TokenMissing()),
        Cause(_denied("Jwt_is_expired"), errors.TokenExpired()),
        Cause(_denied("Jwks_remote_fetch_is_failed"), errors.Unavailable()),
        Cause(_denied(""), errors.TokenInvalid()),
        Cause("response.code == 404", errors.RouteNotFound()),
        Cause(UNKNOWN_QUERY, errors.UnknownQueryParameter()),
        Cause(
            "response.code == 413",
            errors.RequestTooLarge(f"the request is over {settings.max_body} bytes"),
        ),
        Cause("response.code == 415", errors.UnsupportedMediaType()),
        Cause("response.code == 429", errors.RateLimited(seconds=1.0)),
        Cause("response.code == 408 || response.code == 504", errors.DeadlineExceeded()),
        Cause("response.code == 502 || response.code == 503", errors.Unavailable()),
        Cause("response.code == 431", errors.MalformedRequest(), http=431),
        Cause("response.code < 500", errors.MalformedRequest()),
        Cause("true", errors.Internal()),
    )


def local_reply_config(settings: EdgeSettings) -> Config:
    return {
        "mappers": [
            *_health_mappers(settings),
            *(mapper for cause in causes(settings) for mapper in (_grpc_mapper(cause), _rest_mapper(cause))),
        ]
    }


def details(error: errors.SampanError) -> bytes:
    """google.rpc.Status of an error, with NO_TRACE where its trace id goes."""
    encoded: bytes = rpc_status(error, NO_TRACE).SerializeToString(deterministic=True)
    return encoded


def grpc_message(error: errors.SampanError) -> str:
    """The detail as the header `grpc-message`: bytes that are not printable ASCII, and %, are escaped."""
    raw = error.detail.encode()
    return "".join(chr(byte) if 32 <= byte < 127 and byte != ord("%") else f"%{byte:02X}" for byte in raw)


def _cel(expression: str) -> Config:
    cel = extension(
        "envoy.access_loggers.extension_filters.cel",
        "access_loggers.filters.cel.v3.ExpressionFilter",
        expression=expression,
    )
    return {"extension_filter": cel}


def _header(name: str, **match: object) -> Config:
    return {"header_filter": {"header": {"name": name, **match}}}


def _all(*filters: Config) -> Config:
    return {"and_filter": {"filters": list(filters)}}


TRANSCODED = _header("x-envoy-original-path", present_match=True)
# A transcoded call looks like gRPC from the inside; grpc-web is application/grpc-web until its filter ran.
GRPC_DOORS = _all(
    _header("content-type", string_match={"prefix": "application/grpc"}),
    _header("x-envoy-original-path", present_match=True, invert_match=True),
)


def _grpc_mapper(cause: Cause) -> Config:
    """Trailers only: everything stands in the headers, and there is no body."""
    error = cause.error
    return {
        "filter": _all(_cel(cause.when), GRPC_DOORS),
        "status_code": 200,
        "body": {"inline_string": ""},
        "headers_to_add": [
            set_header("grpc-status", str(errors.status_of(type(error)).number)),
            set_header("grpc-message", _literal(grpc_message(error))),
            set_header("grpc-status-details-bin", base64.b64encode(details(error)).decode()),
            set_header(REASON_HEADER, error.reason),
            *_retry_after(error),
        ],
    }


def _rest_mapper(cause: Cause) -> Config:
    words = problem(cause.error, "", "")
    fields = {key: _literal(value) if isinstance(value, str) else value for key, value in words.items()}
    fields |= {"status": cause.status, "instance": PATH_OPERATOR, "trace_id": TRACE_OPERATOR}
    if cause.http:
        fields["title"] = HTTPStatus(cause.http).phrase
    challenge = [set_header("www-authenticate", "Bearer")] if cause.status == 401 else []
    return {
        "filter": _cel(cause.when),
        "status_code": cause.status,
        "body_format_override": {
            "json_format": fields,
            "content_type": "application/problem+json",
            "omit_empty_values": True,
        },
        "headers_to_add": [*_retry_after(cause.error), *challenge],
    }


def _health_mappers(settings: EdgeSettings) -> list[Config]:
    """/healthz speaks to machines: it is 503 and plain JSON when nobody is there to answer it."""
    return [
        {
            "filter": _all(
                _header(":path", string_match={"prefix": method.path}),
                TRANSCODED,
                _cel("response.code >= 500"),
            ),
            "status_code": errors.status_of(errors.Unavailable).http,
            "body_format_override": {
                "json_format": {"status": "unhealthy", upstream.name: "down"},
                "content_type": "application/json",
            },
            "headers_to_add": [set_header(PLAIN_HEADER, "1")],
        }
        for upstream, method in public_methods(settings)
        if method.full_name == HEALTH_METHOD
    ]


def _retry_after(error: errors.SampanError) -> list[Config]:
    wait = error.retry_after()
    return [] if wait is None else [set_header("retry-after", f"{wait:.0f}")]


def _literal(text: str) -> str:
    """Keeps Envoy from reading operators into our own words."""
    return text.replace("%", "%%")
