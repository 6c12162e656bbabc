"""What the refusal of another service means to its caller: the reason is kept, its text is not."""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

from services.mesh.errors import (
    AlreadyExists,
    DeadlineExceeded,
    FailedPrecondition,
    Internal,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    RateLimited,
    SampanError,
    Unauthenticated,
    Unavailable,
)

_DETAILS = "grpc-status-details-bin"

_KEPT: dict[grpc.StatusCode, type[SampanError]] = {
    grpc.StatusCode.INVALID_ARGUMENT: InvalidArgument,
    grpc.StatusCode.UNAUTHENTICATED: Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: PermissionDenied,
    grpc.StatusCode.NOT_FOUND: NotFound,
    grpc.StatusCode.ALREADY_EXISTS: AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: FailedPrecondition,
    grpc.StatusCode.RESOURCE_EXHAUSTED: RateLimited,
    grpc.StatusCode.UNAVAILABLE: Unavailable,
}
# Between services these say that we are built or set up wrongly: nothing that our own caller could mend.
_OUR_FAULT = frozenset(("CALLER_NOT_ALLOWED", "POLICY_MISSING", "MALFORMED_REQUEST", "REQUEST_TOO_LARGE"))


def understood(error: grpc.aio.AioRpcError) -> SampanError:
    """Our own error for what came back from a call."""
    code = error.code()
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineExceeded()
    if code is grpc.StatusCode.CANCELLED:
        # Not by us: the other side let go of it.
        return Unavailable()
    info, seconds = _details(error)
    if not info.domain.startswith("sampan"):
        return Unavailable() if code is grpc.StatusCode.UNAVAILABLE else Internal()
    kind = _KEPT.get(code)
    if kind is None or info.reason in _OUR_FAULT:
        return Internal()
    shown = RateLimited(seconds=seconds) if kind is RateLimited else kind()
    shown.reason, shown.domain = info.reason, info.domain
    return shown


def _details(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo, float | None]:
    info = error_details_pb2.ErrorInfo()
    retry = error_details_pb2.RetryInfo()
    seconds: float | None = None
    trailing = cast(Iterable[tuple[str, str | bytes]], error.trailing_metadata() or ())
    for key, value in trailing:
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(info)
                if detail.Unpack(retry):
                    seconds = retry.retry_delay.ToNanoseconds() / 1e9
        except DecodeError:
            return error_details_pb2.ErrorInfo(), None
    return info, seconds
