"""admin and identity: what an operator does about people and keys."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from services.stack.commands.calling import TIMEOUT, as_operator
from services.stack.commands.console import told_errors

if TYPE_CHECKING:
    from sampan.identity.v1.identity_internal_service_pb2 import (
        RotateKeysResponse,
        SetRoleResponse,
        Standing,
    )

admin = typer.Typer(no_args_is_help=True, help="Give people rights, set their KYC tier, suspend them.")
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


@admin.command()
def tier(
    *,
    user: Annotated[str, typer.Argument(help="User name or id.")],
    tier: Annotated[int, typer.Argument(help="0 to 3.", min=0, max=3)],
) -> None:
    """Set a person's KYC tier, which says how much they may send in a day.

    \b
    Examples:
      sampan admin tier somchai 2
    """
    with told_errors():
        told_standing(asyncio.run(set_kyc_tier(user, tier)))


@admin.command()
def suspend(
    *,
    user: Annotated[str, typer.Argument(help="User name or id.")],
    end_sessions: Annotated[bool, typer.Option("--end-sessions", help="Also sign them out now.")] = False,
) -> None:
    """Suspend a person: no sign-in, no payment by them or to them.

    Without --end-sessions they may look on until their access token ends, within 15 minutes.

    \b
    Examples:
      sampan admin suspend somchai
      sampan admin suspend somchai --end-sessions
    """
    with told_errors():
        told_standing(asyncio.run(set_status(user, "suspended", end_sessions=end_sessions)))


@admin.command()
def restore(*, user: Annotated[str, typer.Argument(help="User name or id.")]) -> None:
    """Restore a person who is suspended.

    \b
    Examples:
      sampan admin restore somchai
    """
    with told_errors():
        told_standing(asyncio.run(set_status(user, "active", end_sessions=False)))


def told_standing(standing: Standing) -> None:
    typer.echo(f"{standing.user_id} is {standing.status}, KYC tier {standing.kyc_tier}")


async def set_kyc_tier(user: str, tier: int) -> Standing:
    from sampan.identity.v1.identity_internal_service_pb2 import SetKycTierRequest
    from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub

    async with as_operator("identity") as channel:
        request = SetKycTierRequest(user=user, kyc_tier=tier)
        answer = await IdentityInternalServiceStub(channel).SetKycTier(request, timeout=TIMEOUT)
    found: Standing = answer.standing
    return found


async def set_status(user: str, status: str, *, end_sessions: bool) -> Standing:
    from sampan.identity.v1.identity_internal_service_pb2 import SetStatusRequest
    from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub

    async with as_operator("identity") as channel:
        request = SetStatusRequest(user=user, status=status, end_sessions=end_sessions)
        answer = await IdentityInternalServiceStub(channel).SetStatus(request, timeout=TIMEOUT)
    found: Standing = answer.standing
    return found


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
