"""The same call through each door of the edge, and what came back in one form."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc
import httpx
from google.protobuf import json_format
from google.protobuf.message import Message
from google.rpc import error_details_pb2, status_pb2


@dataclass(frozen=True)
class Reply:
    """What a door answered. `reason` is empty when the call went well; `code` is the door's own number."""

    reason: str
    code: int
    body: Mapping[str, Any] = field(default_factory=dict)
    raw: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def _details(encoded: bytes) -> tuple[str, dict[str, Any]]:
    status = status_pb2.Status.FromString(encoded)
    info = error_details_pb2.ErrorInfo()
    bad = error_details_pb2.BadRequest()
    for detail in status.details:
        detail.Unpack(info)
        detail.Unpack(bad)
    fields = [
        {"field": one.field, "rule": one.reason, "message": one.description} for one in bad.field_violations
    ]
    return info.reason, {
        "detail": status.message,
        "errors": fields,
        "trace_id": info.metadata.get("trace_id", ""),
        "domain": info.domain,
    }


def problem(response: httpx.Response) -> Reply:
    """A REST answer."""
    try:
        body = response.json() if response.content else {}
    except ValueError:
        body = {}
    reason = body.get("reason", "NO_REASON") if response.status_code >= 400 else ""
    return Reply(reason, response.status_code, body, response.content, dict(response.headers))


def _unbase64(value: str) -> bytes:
    return base64.b64decode(value + "=" * (-len(value) % 4))


class GrpcDoor:
    """gRPC, as a mobile app speaks it."""

    name = "grpc"

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._channel = channel

    async def call(
        self,
        path: str,
        request: bytes,
        answer: type[Message],
        *,
        token: str | None = None,
        metadata: Sequence[tuple[str, str]] = (),
    ) -> Reply:
        """A unary call with ready-made bytes."""
        if token is not None:
            metadata = (*metadata, ("authorization", f"Bearer {token}"))
        method = self._channel.unary_unary(path)
        try:
            raw = await method(request, metadata=metadata, timeout=20)
        except grpc.aio.AioRpcError as error:
            code = error.code().value[0]
            for key, value in error.trailing_metadata() or ():
                if key == "grpc-status-details-bin":
                    reason, body = _details(value if isinstance(value, bytes) else value.encode())
                    return Reply(reason, code, body, str(error).encode())
            return Reply("NO_REASON", code, {"detail": error.details()}, str(error).encode())
        return Reply(
            "", 0, json_format.MessageToDict(answer.FromString(raw), preserving_proto_field_name=True)
        )


class GrpcWebDoor:
    """gRPC-web, as a browser speaks it."""

    name = "grpc_web"

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def call(
        self, path: str, request: bytes, answer: type[Message], *, token: str | None = None
    ) -> Reply:
        """A unary call with ready-made bytes."""
        headers = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
        if token is not None:
            headers["authorization"] = f"Bearer {token}"
        framed = b"\0" + struct.pack(">I", len(request)) + request
        response = await self._client.post(path, content=framed, headers=headers, timeout=20)
        return grpc_web_reply(response, answer)


def grpc_web_reply(response: httpx.Response, answer: type[Message]) -> Reply:
    """Reads frames and trailers; errors without a body have their status in the headers."""
    trailers = {key.lower(): value for key, value in response.headers.items()}
    message = b""
    content = response.content
    while len(content) >= 5:
        flag, size = content[0], struct.unpack(">I", content[1:5])[0]
        frame, content = content[5 : 5 + size], content[5 + size :]
        if flag & 0x80:
            for line in frame.decode().split("\r\n"):
                key, _, value = line.partition(":")
                trailers[key.strip().lower()] = value.strip()
        else:
            message = frame
    code = int(trailers.get("grpc-status", "-1"))
    if code == 0:
        body = json_format.MessageToDict(answer.FromString(message), preserving_proto_field_name=True)
        return Reply("", 0, body, response.content, trailers)
    encoded = trailers.get("grpc-status-details-bin")
    if encoded is None:
        return Reply("NO_REASON", code, {"http": response.status_code}, response.content, trailers)
    reason, body = _details(_unbase64(encoded.partition(",")[0]))
    return Reply(reason, code, body, response.content, trailers)


class RestDoor:
    """REST with JSON."""

    name = "rest"

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def call(
        self,
        verb: str,
        path: str,
        body: Any = None,
        *,
        token: str | None = None,
        content: bytes | None = None,
        content_type: str = "application/json",
    ) -> Reply:
        """A request with a JSON body, or with ready-made bytes."""
        headers = {"authorization": f"Bearer {token}"} if token is not None else {}
        if body is not None:
            content = json.dumps(body).encode()
        if content is not None:
            headers["content-type"] = content_type
        return problem(await self._client.request(verb, path, content=content, headers=headers, timeout=20))
