"""What can go wrong, as a client sees it.

ChatError           the server, or the way to it, said no: `reason` is one of the contract's
├── Unreachable     nobody answered, or the outcome is unknown; repeat it with the same ids
├── SignedOut       the password is wrong, or the session is over
└── StreamRefused   live delivery was refused, and trying again makes no sense
OrderBroken         the server broke its promise: an event was left out or came twice
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc import error_details_pb2, status_pb2

_DETAILS = "grpc-status-details-bin"
# Codes that say nothing about the request itself.
_NOBODY_THERE = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
    )
)
# Reasons after which the same request may be made again. None of them changes what the request would do.
PASSING = frozenset(
    (
        "RATE_LIMITED",
        "QUEUE_FULL",
        "OUTCOME_UNKNOWN",
        "DRAINING",
        "UNAVAILABLE",
        "DEADLINE_EXCEEDED",
        "INTERNAL",
    )
)


class ChatError(Exception):
    """A refusal: `reason` for programs, `detail` for people, `retry_after` in seconds if the server said."""

    def __init__(self, reason: str, detail: str = "", retry_after: float | None = None) -> None:
        super().__init__(f"{reason}: {detail}" if detail else reason)
        self.reason = reason
        self.detail = detail
        self.retry_after = retry_after

    @property
    def passing(self) -> bool:
        """Whether the same request may go well later."""
        return self.reason in PASSING


class Unreachable(ChatError):
    """Nobody answered."""

    @property
    def passing(self) -> bool:
        """Always."""
        return True


class SignedOut(ChatError):
    """The session is over."""


class StreamRefused(ChatError):
    """Live delivery is not to be had."""


class OrderBroken(Exception):
    """An event of a dialog came that is not the next."""

    def __init__(self, dialog_id: str, expected: int, got: int) -> None:
        super().__init__(f"dialog {dialog_id}: event {got} came, {expected} was next")
        self.dialog_id = dialog_id
        self.expected = expected
        self.got = got


def understood(error: grpc.aio.AioRpcError) -> ChatError:
    """Our error for a failed call, with the reason of its details."""
    info, retry_after, wrong = _details(error)
    detail = wrong or error.details() or ""
    if error.code() is grpc.StatusCode.UNAUTHENTICATED:
        return SignedOut(info.reason or "UNAUTHENTICATED", detail)
    if error.code() in _NOBODY_THERE:
        return Unreachable(info.reason or error.code().name, detail, retry_after)
    return ChatError(info.reason or error.code().name, detail, retry_after)


def _details(error: grpc.aio.AioRpcError) -> tuple[error_details_pb2.ErrorInfo, float | None, str]:
    """Reason, seconds to wait, and which fields are wrong."""
    info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
    fields = error_details_pb2.BadRequest()
    seconds: float | None = None
    trailing = cast("Iterable[tuple[str, str | bytes]]", error.trailing_metadata() or ())
    for key, value in trailing:
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        try:
            for detail in status_pb2.Status.FromString(value).details:
                detail.Unpack(info)
                detail.Unpack(fields)
                if detail.Unpack(retry):
                    seconds = retry.retry_delay.ToNanoseconds() / 1e9
        except DecodeError:
            # A proxy on the way may have cut it; the code says enough.
            return error_details_pb2.ErrorInfo(), None, ""
    wrong = "; ".join(f"{one.field}: {one.description}" for one in fields.field_violations)
    return info, seconds, wrong
