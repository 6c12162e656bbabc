"""Calls a service of this home as the operator: over mTLS, straight to its port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from services.stack.commands.console import this_home
from services.stack.errors import StackError

if TYPE_CHECKING:
    import grpc

TIMEOUT = 5.0


@asynccontextmanager
async def as_operator(service: str) -> AsyncIterator[grpc.aio.Channel]:
    """A channel to a service. Raises StackError when it is not there or refuses, with its words."""
    import grpc

    from services.mesh.tls import channel_credentials, server_name
    from services.stack.pki import OPERATOR, Pki
    from services.stack.service_parts import peers

    home, _ = this_home()
    state = home.load_state()
    operator = Pki(home / "pki").identity(OPERATOR)
    if service not in state.ports or not operator.certificate.exists():
        raise StackError(service, f"has never been started in {home.root}", "Run ./scripts/up first.")
    place = peers(state.ports)[service][0]
    credentials = channel_credentials(operator.certificate, operator.key, operator.ca)
    options = (("grpc.ssl_target_name_override", server_name(service)),)
    async with grpc.aio.secure_channel(place, credentials, options) as channel:
        try:
            yield channel
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
                reason = f"does not answer at {place}: {error.code().name}"
                raise StackError(service, reason, "Is it up? ./scripts/sampan status") from None
            raise StackError(service, f"refuses: {error.details()}", "") from None
