"""Turns errors into what callers see: google.rpc.Status for gRPC, RFC 9457 for REST."""

from __future__ import annotations

import json
import math

from google.protobuf import any_pb2, duration_pb2
from google.rpc import error_details_pb2, status_pb2

from services.mesh.errors import RateLimited, SampanError, status_of

# Metadata by which a service tells the edge's Lua what a REST client shall see.
HTTP_CODE_HEADER = "x-http-code"
PROBLEM_HEADER = "x-problem"

# An answer's metadata must stay below gRPC's 8 KiB: more violations than these are counted, not listed.
MAX_VIOLATIONS = 16


def rpc_status(error: SampanError, trace_id: str) -> status_pb2.Status:
    """google.rpc.Status with ErrorInfo, and BadRequest and RetryInfo where they apply (AIP-193)."""
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=error.domain, metadata=error.metadata())
    info.metadata["trace_id"] = trace_id
    details: list[any_pb2.Any] = [_pack(info)]
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for violation in error.violations[:MAX_VIOLATIONS]:
            bad.field_violations.add(
                field=violation.field, description=violation.message, reason=violation.rule
            )
        details.append(_pack(bad))
    seconds = error.retry_after()
    if seconds is not None:
        delay = duration_pb2.Duration()
        delay.FromNanoseconds(int(seconds * 1e9))
        details.append(_pack(error_details_pb2.RetryInfo(retry_delay=delay)))
    return status_pb2.Status(code=status_of(type(error)).number, message=error.detail, details=details)


def _pack(
    message: error_details_pb2.ErrorInfo | error_details_pb2.BadRequest | error_details_pb2.RetryInfo,
) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed


def problem(error: SampanError, trace_id: str, path: str) -> dict[str, object]:
    """The RFC 9457 object of an error; `path` is that of the request, its query is cut off."""
    status = status_of(type(error))
    return {
        "type": f"urn:sampan:reason:{error.reason}",
        "title": status.title,
        "status": status.http,
        "detail": error.detail,
        "instance": path.partition("?")[0][:256],
        "reason": error.reason,
        "errors": [
            {"field": violation.field, "rule": violation.rule, "message": violation.message}
            for violation in error.violations[:MAX_VIOLATIONS]
        ],
        "trace_id": trace_id,
    }


def rest_headers(error: SampanError, trace_id: str, path: str) -> list[tuple[str, str]]:
    """Metadata for the edge: status, problem+json body as ASCII, and Retry-After in whole seconds."""
    body = json.dumps(problem(error, trace_id, path), separators=(",", ":"))
    headers = [(HTTP_CODE_HEADER, str(status_of(type(error)).http)), (PROBLEM_HEADER, body)]
    seconds = error.retry_after()
    if seconds is not None:
        wait = str(max(1, math.ceil(seconds)))
        headers += [("retry-after", wait), ("ratelimit-remaining", "0"), ("ratelimit-reset", wait)]
    if isinstance(error, RateLimited) and error.calls:
        headers.append(("ratelimit-limit", str(error.calls)))
    return headers
