"""The Lua filter's source: tables made from the error table, then edge.lua."""

from __future__ import annotations

import json
from pathlib import Path

from services.mesh import errors
from services.mesh.problem import problem

from envoy.local_replies import NO_TRACE, causes, details
from envoy.settings import EdgeSettings

SOURCE = Path(__file__).with_name("edge.lua")
NO_PATH = "NO_PATH"

# What an HTTP status means when a service's answer came without our words.
BY_STATUS: dict[int, type[errors.SampanError]] = {
    400: errors.MalformedRequest,
    401: errors.TokenInvalid,
    403: errors.PermissionDenied,
    404: errors.NotFound,
    409: errors.FailedPrecondition,
    413: errors.RequestTooLarge,
    415: errors.UnsupportedMediaType,
    429: errors.RateLimited,
    500: errors.Internal,
    501: errors.RouteNotFound,
    502: errors.Unavailable,
    503: errors.Unavailable,
    504: errors.DeadlineExceeded,
}


def lua_source(settings: EdgeSettings) -> str:
    return "\n".join(
        (
            f"local TRACE_PERCENT = {settings.trace_percent}",
            f"local NO_TRACE = {_text(NO_TRACE.encode())}",
            f"local DETAILS = {_details(settings)}",
            f"local PROBLEMS = {_problems()}",
            SOURCE.read_text(encoding="utf-8"),
        )
    )


def _details(settings: EdgeSettings) -> str:
    by_reason = {cause.error.reason: _text(details(cause.error)) for cause in causes(settings)}
    return _table(by_reason)


def _problems() -> str:
    return _table({str(status): _problem(error()) for status, error in BY_STATUS.items()})


def _problem(error: errors.SampanError) -> str:
    body = json.dumps(problem(error, NO_TRACE, NO_PATH), separators=(",", ":"))
    status = str(errors.status_of(type(error)).http)
    return f"{{ status = {_text(status.encode())}, body = {_text(body.encode())} }}"


def _table(entries: dict[str, str]) -> str:
    return "{ " + ", ".join(f"[{_text(key.encode())}] = {value}" for key, value in entries.items()) + " }"


def _text(value: bytes) -> str:
    """A Lua string: every byte that is not plain is escaped by its number."""
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in value)
    return '"' + "".join(plain) + '"'
