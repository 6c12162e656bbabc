"""proto <-> domain for sampan.identity.v1."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from sampan.identity.v1 import account_pb2, identity_service_pb2
from services.identity.domain import (
    Account,
    Identifier,
    IdentifierKind,
    normal_email,
    normal_phone,
)
from services.identity.keyring import KeyRing, base64url
from services.identity.service import IdentityService, Registration, SignedIn
from services.mesh.call import Call


class IdentityServicer:
    """Implements sampan.identity.v1.IdentityService."""

    def __init__(self, service: IdentityService, keys: KeyRing) -> None:
        self._service = service
        self._keys = keys

    async def Register(  # noqa: N802 - named by the contract
        self, request: identity_service_pb2.RegisterRequest, call: Call
    ) -> identity_service_pb2.RegisterResponse:
        done = await self._service.register(
            Registration(
                username=request.username,
                password=request.password,
                email=request.email,
                phone=request.phone,
                display_name=request.display_name,
            )
        )
        call.created("/v1/me")
        return _signed_in(identity_service_pb2.RegisterResponse, done)

    async def Login(  # noqa: N802
        self, request: identity_service_pb2.LoginRequest, _: Call
    ) -> identity_service_pb2.LoginResponse:
        if request.username:
            done = await self._service.login_by_username(request.username, request.password)
        else:
            done = await self._service.login_by_identifier(_identifier(request), request.password)
        return _signed_in(identity_service_pb2.LoginResponse, done)

    async def GetMe(  # noqa: N802
        self, _: identity_service_pb2.GetMeRequest, call: Call
    ) -> account_pb2.Account:
        return _account(await self._service.me(UUID(call.require_user().id)))

    async def GetJwks(  # noqa: N802
        self, _: identity_service_pb2.GetJwksRequest, __: Call
    ) -> identity_service_pb2.JwkSet:
        return identity_service_pb2.JwkSet(
            keys=[
                identity_service_pb2.Jwk(
                    kty="OKP",
                    crv="Ed25519",
                    x=base64url(key.public.public_bytes_raw()),
                    kid=key.kid,
                    use="sig",
                    alg="EdDSA",
                )
                for key in self._keys.all
            ]
        )


def _identifier(request: identity_service_pb2.LoginRequest) -> Identifier:
    if request.email:
        return Identifier(IdentifierKind.EMAIL, normal_email(request.email))
    # A number that cannot exist has no account; it is looked up all the same, so that both take as long.
    return Identifier(IdentifierKind.PHONE, normal_phone(request.phone) or request.phone)


_Answer = TypeVar("_Answer", identity_service_pb2.RegisterResponse, identity_service_pb2.LoginResponse)


def _signed_in(answer: type[_Answer], done: SignedIn) -> _Answer:
    """The fields that the answers to a sign-in share."""
    return answer(
        id=str(done.account.id),
        username=done.account.username,
        token=done.tokens.access,
        access_token=done.tokens.access,
        refresh_token=done.tokens.refresh,
        expires_in=done.tokens.expires_in,
        user=_account(done.account),
    )


def _account(account: Account) -> account_pb2.Account:
    shown = account_pb2.Account(
        id=str(account.id),
        email=account.email,
        phone=account.phone,
        username=account.username,
        display_name=account.display_name,
        avatar_url=account.avatar_url,
        status=account.status.value,
        kyc_tier=account.kyc_tier,
        roles=account.roles,
    )
    shown.created_at.FromDatetime(account.created_at)
    shown.updated_at.FromDatetime(account.updated_at)
    return shown
