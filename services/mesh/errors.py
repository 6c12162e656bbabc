"""What can go wrong, said once: each error has a reason, and one table gives its gRPC code and HTTP status.

SampanError
├── InvalidArgument          400  field by field
│   ├── MalformedRequest
│   ├── UnknownQueryParameter
│   └── UnsupportedMediaType 415
├── Unauthenticated          401
│   ├── TokenMissing
│   ├── TokenInvalid
│   └── TokenExpired
├── PermissionDenied         403
│   ├── CallerNotAllowed
│   └── PolicyMissing
├── NotFound                 404
├── RouteNotFound            404
├── AlreadyExists            409
├── FailedPrecondition       409
│   └── RequestIdReused
├── RequestTooLarge          413
├── RateLimited              429
├── Overloaded               429
├── Unavailable              503
│   └── OutcomeUnknown
├── DeadlineExceeded         504
└── Internal                 500
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import grpc


@dataclass(frozen=True, slots=True)
class Violation:
    """One field that breaks its rule: `field` as a path, `rule` as its stable id, `message` for people."""

    field: str
    rule: str
    message: str


class SampanError(Exception):
    """An error that its caller may see.

    `detail` is shown to people and never holds what the caller did not send. A context's own errors
    subclass one of the types below and set `reason` and `domain`.
    """

    reason: str = "INTERNAL"
    domain: str = "sampan"
    detail: str = "something went wrong on our side"

    def __init__(self, detail: str | None = None, *, violations: tuple[Violation, ...] = ()) -> None:
        self.detail = detail if detail is not None else type(self).detail
        self.violations = violations
        super().__init__(self.detail)

    def metadata(self) -> dict[str, str]:
        """What goes into `ErrorInfo.metadata`."""
        return {}

    def retry_after(self) -> float | None:
        """Seconds to wait before another try, when that is known."""
        return None


class InvalidArgument(SampanError):
    reason = "INVALID_ARGUMENT"
    detail = "the request breaks a rule"


class MalformedRequest(InvalidArgument):
    reason = "MALFORMED_REQUEST"
    detail = "the request cannot be read as the request of this method"


class UnknownQueryParameter(InvalidArgument):
    reason = "UNKNOWN_QUERY_PARAMETER"
    detail = "a query parameter is not a field of the request"


class UnsupportedMediaType(InvalidArgument):
    reason = "UNSUPPORTED_MEDIA_TYPE"
    detail = "send the body as application/json"


class Unauthenticated(SampanError):
    reason = "UNAUTHENTICATED"
    detail = "sign in first"


class TokenMissing(Unauthenticated):
    reason = "TOKEN_MISSING"
    detail = "send an access token: Authorization: Bearer <access_token>"


class TokenInvalid(Unauthenticated):
    reason = "TOKEN_INVALID"
    detail = "the access token is not valid"


class TokenExpired(Unauthenticated):
    reason = "TOKEN_EXPIRED"
    detail = "the access token has expired: refresh it"


class PermissionDenied(SampanError):
    reason = "PERMISSION_DENIED"
    detail = "you may not do this"


class CallerNotAllowed(PermissionDenied):
    reason = "CALLER_NOT_ALLOWED"
    detail = "this method is for other services"


class PolicyMissing(PermissionDenied):
    reason = "POLICY_MISSING"
    detail = "the method has no policy"


class NotFound(SampanError):
    reason = "NOT_FOUND"
    detail = "there is no such thing"


class RouteNotFound(SampanError):
    reason = "ROUTE_NOT_FOUND"
    detail = "there is nothing at this address"


class AlreadyExists(SampanError):
    reason = "ALREADY_EXISTS"
    detail = "it exists already"


class FailedPrecondition(SampanError):
    reason = "FAILED_PRECONDITION"
    detail = "its state does not allow this now"


class RequestIdReused(FailedPrecondition):
    reason = "REQUEST_ID_REUSED"
    detail = "this request_id was used before with other input"


class RequestTooLarge(SampanError):
    reason = "REQUEST_TOO_LARGE"
    detail = "the request is over 1048576 bytes"


class RateLimited(SampanError):
    """Too many calls: over `calls` in their time; `seconds` is how long until there is room for one."""

    reason = "RATE_LIMITED"
    detail = "too many calls: wait a little"

    def __init__(self, *, calls: int = 0, seconds: float | None = None) -> None:
        self.calls = calls
        self.seconds = seconds
        super().__init__(None if seconds is None else f"too many calls: wait {max(1, math.ceil(seconds))} s")

    def retry_after(self) -> float | None:
        return self.seconds

    def metadata(self) -> dict[str, str]:
        return {"limit": str(self.calls)} if self.calls else {}


class Overloaded(SampanError):
    """A bounded queue is full. Nothing was done."""

    reason = "OVERLOADED"
    detail = "too much is waiting: try again in a moment"

    def retry_after(self) -> float | None:
        return 1.0


class Unavailable(SampanError):
    reason = "UNAVAILABLE"
    detail = "a part of the service is not available: try again"


class OutcomeUnknown(Unavailable):
    reason = "OUTCOME_UNKNOWN"
    detail = "whether it was done is not known: send it again with the same request_id"


class DeadlineExceeded(SampanError):
    reason = "DEADLINE_EXCEEDED"
    detail = "the call took longer than its deadline"


class Internal(SampanError):
    """Our fault. Its detail never says more than this."""


@dataclass(frozen=True, slots=True)
class Status:
    """How an error leaves: the gRPC code, and the HTTP status and title that REST shows."""

    code: grpc.StatusCode
    http: int
    title: str

    @property
    def number(self) -> int:
        """The gRPC code as a number."""
        number: int = self.code.value[0]
        return number


# The nearest entry along an error's bases counts.
STATUS: dict[type[SampanError], Status] = {
    InvalidArgument: Status(grpc.StatusCode.INVALID_ARGUMENT, 400, "Bad Request"),
    UnsupportedMediaType: Status(grpc.StatusCode.INVALID_ARGUMENT, 415, "Unsupported Media Type"),
    Unauthenticated: Status(grpc.StatusCode.UNAUTHENTICATED, 401, "Unauthorized"),
    PermissionDenied: Status(grpc.StatusCode.PERMISSION_DENIED, 403, "Forbidden"),
    NotFound: Status(grpc.StatusCode.NOT_FOUND, 404, "Not Found"),
    RouteNotFound: Status(grpc.StatusCode.UNIMPLEMENTED, 404, "Not Found"),
    AlreadyExists: Status(grpc.StatusCode.ALREADY_EXISTS, 409, "Conflict"),
    FailedPrecondition: Status(grpc.StatusCode.FAILED_PRECONDITION, 409, "Conflict"),
    RequestTooLarge: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 413, "Content Too Large"),
    RateLimited: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "Too Many Requests"),
    Overloaded: Status(grpc.StatusCode.RESOURCE_EXHAUSTED, 429, "Too Many Requests"),
    Unavailable: Status(grpc.StatusCode.UNAVAILABLE, 503, "Service Unavailable"),
    DeadlineExceeded: Status(grpc.StatusCode.DEADLINE_EXCEEDED, 504, "Gateway Timeout"),
    SampanError: Status(grpc.StatusCode.INTERNAL, 500, "Internal Server Error"),
}


def status_of(error: type[SampanError]) -> Status:
    """The table's entry that is nearest along the bases of an error type."""
    return next(STATUS[base] for base in error.__mro__ if base in STATUS)
