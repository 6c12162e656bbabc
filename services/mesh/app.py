"""What a service's composition root gives to the process that runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from services.mesh.auth import Keys
from services.mesh.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class App:
    """A service, built and ready to be served.

    `servicers` maps full names of protobuf services to what implements them; `keys` says where it finds
    the public keys of access tokens; `foreign` holds handlers of contracts that are not ours, which run
    without the chain; `closers` run in order when the server has stopped.
    """

    name: str
    settings: ServiceSettings
    servicers: Mapping[str, object]
    keys: Keys
    foreign: Sequence[grpc.GenericRpcHandler[Any, Any]] = ()
    closers: Sequence[Callable[[], Awaitable[None]]] = field(default=())
