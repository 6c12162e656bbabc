"""gRPC handlers of methods: the chain around a servicer's functions, for all four arities."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, aclosing, nullcontext
from typing import Any

import grpc
from google.protobuf.message import Message

from services.mesh.chain import Chain, Context
from services.mesh.metrics import MethodCalls
from services.mesh.policy import Method

Handler = Callable[..., Any]


def rpc_handler(chain: Chain, method: Method, handler: Handler) -> grpc.RpcMethodHandler[Any, Any]:
    """The gRPC handler of a method: the chain around a servicer's function, on raw bytes both ways.

    `handler(request, call)` is a coroutine function, or an async generator function when the method streams
    its answers; a method that streams its requests gets an async iterator of them. An answer may be bytes,
    ready to be sent.
    """
    if method.server_streaming:
        stream = _streaming(chain, method, handler)
        if method.client_streaming:
            return grpc.stream_stream_rpc_method_handler(stream)
        return grpc.unary_stream_rpc_method_handler(stream)
    unary = _unary(chain, method, handler)
    if method.client_streaming:
        return grpc.stream_unary_rpc_method_handler(unary)
    return grpc.unary_unary_rpc_method_handler(unary)


def _input(chain: Chain, method: Method, raw: Any) -> Any:
    if not method.client_streaming:
        return chain.read(method, raw)

    async def requests() -> AsyncIterator[Message]:
        async for one in raw:
            yield chain.read(method, one)

    return requests()


def _counted(chain: Chain, method: Method) -> MethodCalls:
    # What a stranger makes up is in no contract and has no service: it must not grow our memory.
    path = method.path if method.service else ""
    return chain.calls.of(path, streams=method.server_streaming or method.client_streaming)


def _unary(chain: Chain, method: Method, handler: Handler) -> Handler:
    counted = _counted(chain, method)

    async def run(raw: Any, context: Context) -> bytes:
        call = chain.begin(method, counted, context)
        try:
            waiting = chain.admit(call, context)
            if waiting is not None:
                await waiting
            with chain.until(call.limit):
                response: Message | bytes = await handler(_input(chain, method, raw), call)
            # A handler may have its answer in bytes already.
            answer = response if isinstance(response, bytes) else response.SerializeToString()
            telling = chain.leave(call, context)
            if telling is not None:
                await telling
        except Exception as error:
            await chain.fail(call, context, error)
        except BaseException as error:
            chain.gave_up(call, error)
            raise
        return answer

    return run


# What a handler may give that is ready to be sent: protobuf, or JSON for doors of our own.
_ENCODED = (bytes, str)


def _closing(answers: Any) -> AbstractAsyncContextManager[Any]:
    return aclosing(answers) if hasattr(answers, "aclose") else nullcontext()


def _streaming(chain: Chain, method: Method, handler: Handler) -> Handler:
    counted = _counted(chain, method)

    async def run(raw: Any, context: Context) -> AsyncIterator[bytes | str]:
        call = chain.begin(method, counted, context)
        try:
            waiting = chain.admit(call, context)
            if waiting is not None:
                await waiting
            answers = handler(_input(chain, method, raw), call)
            # Closed with the call: what a stream holds is given back when its client goes.
            async with _closing(answers):
                async for response in answers:
                    # A handler may have encoded it itself, once for many.
                    yield response if type(response) in _ENCODED else response.SerializeToString()
            telling = chain.leave(call, context)
            if telling is not None:
                await telling
        except Exception as error:
            await chain.fail(call, context, error)
        except BaseException as error:
            chain.gave_up(call, error)
            raise

    return run
