"""admin and identity: what an operator does about people and keys."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from services.stack.commands.calling import TIMEOUT, as_operator
from services.stack.commands.console import told_errors

if TYPE_CHECKING:
    from sampan.identity.v1.identity_internal_service_pb2 import RotateKeysResponse, SetRoleResponse

admin = typer.Typer(no_args_is_help=True, help="Give people rights, or take them.")
identity = typer.Typer(no_args_is_help=True, help="Look after identity.")


@admin.callback()
def _admin() -> None:
    """A group, however few commands it has."""


@identity.callback()
def _identity() -> None:
    """A group, however few commands it has."""


@admin.command()
def grant(
    *,
    user: Annotated[str, typer.Argument(help="User name or id.")],
    role: Annotated[str, typer.Option("--role", help="Which role.")] = "admin",
    revoke: Annotated[bool, typer.Option("--revoke", help="Take it instead.")] = False,
) -> None:
    """Give a person a role. Their sessions end: the next sign-in has it.

    \b
    Examples:
      sampan admin grant somchai
      sampan admin grant somchai --revoke
    """
    with told_errors():
        answer = asyncio.run(set_role(user, role, granted=not revoke))
        typer.echo(f"{answer.user_id} has {', '.join(answer.roles) or 'no role'}; their sessions have ended")


async def set_role(user: str, role: str, *, granted: bool) -> SetRoleResponse:
    from sampan.identity.v1.identity_internal_service_pb2 import SetRoleRequest
    from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub

    async with as_operator("identity") as channel:
        request = SetRoleRequest(user=user, role=role, granted=granted)
        return await IdentityInternalServiceStub(channel).SetRole(request, timeout=TIMEOUT)


@identity.command()
def rotate_keys() -> None:
    """Make a new key for access tokens. It is published at once and signs when all have read it.

    \b
    Examples:
      sampan identity rotate-keys
    """
    with told_errors():
        answer = asyncio.run(rotate())
        typer.echo(f"{answer.kid} signs from {answer.active_from.ToDatetime():%Y-%m-%dT%H:%M:%SZ} on")


async def rotate() -> RotateKeysResponse:
    from sampan.identity.v1.identity_internal_service_pb2 import RotateKeysRequest
    from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub

    async with as_operator("identity") as channel:
        return await IdentityInternalServiceStub(channel).RotateKeys(RotateKeysRequest(), timeout=TIMEOUT)
