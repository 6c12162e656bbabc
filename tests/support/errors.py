"""What a refused call says."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

import grpc
from google.rpc import error_details_pb2, status_pb2


def reason_of(error: grpc.aio.AioRpcError) -> str:
    """The reason in an error's details."""
    for key, value in error.trailing_metadata() or ():
        if key == "grpc-status-details-bin":
            info = error_details_pb2.ErrorInfo()
            status_pb2.Status.FromString(value).details[0].Unpack(info)  # type: ignore[arg-type]
            return info.reason
    return f"NO_REASON {error.code()} {error.details()}"


async def reason(call: Awaitable[Any]) -> str:
    """The reason that a call is refused with, or the empty string when it went well."""
    return (await outcome(call))[1]


async def outcome(call: Awaitable[Any]) -> tuple[Any, str]:
    """What a call is answered, or None and the reason that it is refused with."""
    try:
        return await call, ""
    except grpc.aio.AioRpcError as error:
        return None, reason_of(error)
