"""gRPC reflection of all public services, from the descriptor set: each process knows only its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import grpc
from google.protobuf import descriptor_pb2, descriptor_pool
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha._async import ReflectionServicer

# The two versions have the same messages on the wire.
_METHODS = (
    "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
    "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
)


class Reflection(grpc.GenericRpcHandler):  # type: ignore[type-arg]
    """Answers `grpcurl list` and the like, for the services named, out of a serialized FileDescriptorSet."""

    def __init__(self, descriptors: bytes, services: Sequence[str]) -> None:
        pool = descriptor_pool.DescriptorPool()
        for file in descriptor_pb2.FileDescriptorSet.FromString(descriptors).file:
            # Comments are for the documentation; here they would be sent with every answer.
            file.ClearField("source_code_info")
            pool.Add(file)
        servicer = ReflectionServicer(services, pool=pool)
        self._handler: grpc.RpcMethodHandler[Any, Any] = grpc.stream_stream_rpc_method_handler(
            servicer.ServerReflectionInfo,
            request_deserializer=reflection_pb2.ServerReflectionRequest.FromString,
            response_serializer=reflection_pb2.ServerReflectionResponse.SerializeToString,
        )

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        return self._handler if handler_call_details.method in _METHODS else None
