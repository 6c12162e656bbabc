"""The Lua filter's source: tables made from the error table, then edge.lua."""

from __future__ import annotations

import json
from pathlib import Path

from envoy.local_replies import NO_TRACE, causes, details, grpc_message
from envoy.settings import EdgeSettings
from services.mesh import errors
from services.mesh.problem import problem

SOURCE = Path(__file__).with_name("edge.lua")
NO_PATH = "NO_PATH"

# What an answer means that came from below a service (gRPC itself, a broken stream) and so without our words:
# by gRPC code, with the HTTP status that the transcoder makes of it.
FOREIGN: dict[int, tuple[int, type[errors.SampanError]]] = {
    # Our own callers' cancellations reach nobody: a service that stops let go of this one.
    1: (499, errors.Unavailable),
    2: (500, errors.Internal),
    3: (400, errors.MalformedRequest),
    4: (504, errors.DeadlineExceeded),
    5: (404, errors.NotFound),
    7: (403, errors.PermissionDenied),
    8: (429, errors.RateLimited),
    10: (409, errors.FailedPrecondition),
    12: (501, errors.RouteNotFound),
    13: (500, errors.Internal),
    14: (503, errors.Unavailable),
    15: (500, errors.Internal),
    16: (401, errors.TokenInvalid),
}


def lua_source(settings: EdgeSettings) -> str:
    return "\n".join(
        (
            f"local TRACE_PERCENT = {settings.trace_percent}",
            f"local NO_TRACE = {_text(NO_TRACE)}",
            f"local NO_PATH = {_text(NO_PATH)}",
            f"local DETAILS = {_table(_details(settings))}",
            f"local FOREIGN = {_table(_foreign())}",
            f"local PROBLEMS = {_table(_problems())}",
            f"local WEBSOCKETS = {_table({one.path: 'true' for one in settings.websockets})}",
            SOURCE.read_text(encoding="utf-8"),
        )
    )


def _details(settings: EdgeSettings) -> dict[str, str]:
    worded = [cause.error for cause in causes(settings)]
    return {error.reason: _text(details(error)) for error in worded}


def _foreign() -> dict[str, str]:
    return {str(code): _grpc_reply(error()) for code, (_, error) in FOREIGN.items()}


def _grpc_reply(error: errors.SampanError) -> str:
    code = str(errors.status_of(type(error)).number)
    fields = {"code": _text(code), "message": _text(grpc_message(error)), "details": _text(details(error))}
    return _table(fields)


def _problems() -> dict[str, str]:
    return {str(status): _problem(error()) for status, error in FOREIGN.values()}


def _problem(error: errors.SampanError) -> str:
    body = json.dumps(problem(error, NO_TRACE, NO_PATH), separators=(",", ":"))
    return _table({"status": _text(str(errors.status_of(type(error)).http)), "body": _text(body)})


def _table(entries: dict[str, str]) -> str:
    """A Lua table; its values are Lua already."""
    return "{ " + ", ".join(f"[{_text(key)}] = {value}" for key, value in entries.items()) + " }"


def _text(value: str | bytes) -> str:
    """A Lua string: every byte that is not plain is escaped by its number."""
    raw = value.encode() if isinstance(value, str) else value
    plain = (chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}" for byte in raw)
    return '"' + "".join(plain) + '"'
