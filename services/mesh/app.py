"""What a service's composition root gives to the process that runs it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import grpc

from services.mesh.auth import Keys
from services.mesh.chain import Chain
from services.mesh.metrics import Observe
from services.mesh.revocation import Revocations, Watch, nothing_revoked
from services.mesh.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class App:
    """A service, built and ready to be served.

    `servicers` maps full names of protobuf services to what implements them; `keys` says where it finds the
    public keys of access tokens and `revocations` which sessions have ended; a `wary` one serves nobody who
    is signed in when that has not been known for long; `foreign` holds handlers of
    contracts that are not ours, which run without the chain; `background` runs as long as the server does;
    `closers` run in order when it has stopped; `observed` are asked for figures at every scrape. `attach` is
    given the chain and the revocations, before the server starts; `drain` is called when it stops and
    balancers know: streams end then.
    """

    name: str
    settings: ServiceSettings
    servicers: Mapping[str, object]
    keys: Keys
    revocations: Watch = nothing_revoked
    wary: bool = False
    attach: Callable[[Chain, Revocations], None] = lambda _chain, _revocations: None
    drain: Callable[[], None] = lambda: None
    foreign: Sequence[grpc.GenericRpcHandler[Any, Any]] = ()
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    closers: Sequence[Callable[[], Awaitable[None]]] = field(default=())
    observed: Sequence[Observe] = ()
