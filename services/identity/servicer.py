"""proto <-> domain for sampan.identity.v1.IdentityService."""

from __future__ import annotations

from typing import TypeVar
from uuid import UUID

from sampan.identity.v1 import account_pb2
from sampan.identity.v1 import identity_service_pb2 as pb
from services.identity.codes import Codes
from services.identity.domain import (
    Account,
    Identifier,
    IdentifierKind,
    Purpose,
    normal_email,
    normal_phone,
)
from services.identity.errors import EmailInvalid, PhoneInvalid
from services.identity.keyring import KeyRing, base64url
from services.identity.service import IdentityService, Registration
from services.identity.sessions import Sessions, SignedIn
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency

# A sign-in checks it at each call, so a repeated one need not compare it.
_PASSWORD = ("password",)

Named = TypeVar("Named", pb.RegisterResponse, pb.LoginResponse)
Reached = TypeVar(
    "Reached",
    pb.RegisterWithEmailResponse,
    pb.RegisterWithPhoneResponse,
    pb.LoginWithEmailResponse,
    pb.LoginWithPhoneResponse,
)
Paired = TypeVar("Paired", pb.VerifyOtpResponse, pb.RefreshTokenResponse)


class IdentityServicer:
    """Implements sampan.identity.v1.IdentityService."""

    def __init__(
        self,
        service: IdentityService,
        sessions: Sessions,
        codes: Codes,
        keys: KeyRing,
        idempotency: Idempotency,
    ) -> None:
        self._service = service
        self._sessions = sessions
        self._codes = codes
        self._keys = keys
        self._key = idempotency.key

    async def Register(self, request: pb.RegisterRequest, call: Call) -> pb.RegisterResponse:
        found = []
        if request.email:
            found.append(_email(request.email))
        if request.phone:
            found.append(_phone(request.phone))
        registration = Registration(
            username=request.username,
            password=request.password,
            identifiers=tuple(found),
            display_name=request.display_name,
            device=_device(call),
            key=await self._key(request, call),
        )
        done = await self._service.register(registration)
        call.created("/v1/me")
        return _named(pb.RegisterResponse, done)

    async def RegisterWithEmail(
        self, request: pb.RegisterWithEmailRequest, call: Call
    ) -> pb.RegisterWithEmailResponse:
        done = await self._register_by(_email(request.email), request, call)
        return _reached(pb.RegisterWithEmailResponse, done)

    async def RegisterWithPhone(
        self, request: pb.RegisterWithPhoneRequest, call: Call
    ) -> pb.RegisterWithPhoneResponse:
        done = await self._register_by(_phone(request.phone), request, call)
        return _reached(pb.RegisterWithPhoneResponse, done)

    async def _register_by(
        self,
        identifier: Identifier,
        request: pb.RegisterWithEmailRequest | pb.RegisterWithPhoneRequest,
        call: Call,
    ) -> SignedIn:
        registration = Registration(
            password=request.password,
            identifiers=(identifier,),
            device=_device(call),
            key=await self._key(request, call),
        )
        done = await self._service.register(registration)
        call.created("/v1/me")
        return done

    async def Login(self, request: pb.LoginRequest, call: Call) -> pb.LoginResponse:
        password, device = request.password, _device(call)
        key = await self._key(request, call, verified=_PASSWORD)
        if request.username:
            done = await self._service.login_by_username(request.username, password, device, key)
        else:
            kind = IdentifierKind.EMAIL if request.email else IdentifierKind.PHONE
            value = request.email or request.phone
            done = await self._service.login_by_identifier(_sought(kind, value), password, device, key)
        return _named(pb.LoginResponse, done)

    async def LoginWithEmail(
        self, request: pb.LoginWithEmailRequest, call: Call
    ) -> pb.LoginWithEmailResponse:
        sought = _sought(IdentifierKind.EMAIL, request.email)
        key = await self._key(request, call, verified=_PASSWORD)
        done = await self._service.login_by_identifier(sought, request.password, _device(call), key)
        return _reached(pb.LoginWithEmailResponse, done)

    async def LoginWithPhone(
        self, request: pb.LoginWithPhoneRequest, call: Call
    ) -> pb.LoginWithPhoneResponse:
        sought = _sought(IdentifierKind.PHONE, request.phone)
        key = await self._key(request, call, verified=_PASSWORD)
        done = await self._service.login_by_identifier(sought, request.password, _device(call), key)
        return _reached(pb.LoginWithPhoneResponse, done)

    async def SendOtp(self, request: pb.SendOtpRequest, call: Call) -> pb.SendOtpResponse:
        if request.type == IdentifierKind.EMAIL:
            to = _email(request.identifier, "identifier")
        else:
            to = _phone(request.identifier, "identifier", request.country)
        purpose = Purpose(request.purpose or Purpose.LOGIN)
        sent = await self._codes.send(to, purpose, await self._key(request, call))
        answer = pb.SendOtpResponse(success=True, session_id=str(sent.id))
        answer.expires_at.FromDatetime(sent.expires_at)
        return answer

    async def VerifyOtp(self, request: pb.VerifyOtpRequest, call: Call) -> pb.VerifyOtpResponse:
        key = await self._key(request, call)
        done = await self._codes.verify(
            UUID(request.session_id), request.code, request.new_password, _device(call), key
        )
        answer = _paired(pb.VerifyOtpResponse, done)
        answer.user.CopyFrom(_account(done.account))
        return answer

    async def RefreshToken(self, request: pb.RefreshTokenRequest, _: Call) -> pb.RefreshTokenResponse:
        request_id = UUID(request.request_id) if request.request_id else None
        done = await self._sessions.refresh(request.refresh_token, request_id)
        return _paired(pb.RefreshTokenResponse, done)

    async def Logout(self, request: pb.LogoutRequest, call: Call) -> pb.LogoutResponse:
        user = call.require_user()
        key = await self._key(request, call, also=user.session_id)
        await self._sessions.sign_out(UUID(user.id), UUID(user.session_id), key)
        return pb.LogoutResponse()

    async def ListSessions(self, _: pb.ListSessionsRequest, call: Call) -> pb.ListSessionsResponse:
        user = call.require_user()
        answer = pb.ListSessionsResponse()
        for session in await self._sessions.list(UUID(user.id)):
            shown = answer.sessions.add(
                id=str(session.id), device=session.device, current=str(session.id) == user.session_id
            )
            shown.created_at.FromDatetime(session.created_at)
            shown.last_used_at.FromDatetime(session.rotated_at)
        return answer

    async def DeleteSession(self, request: pb.DeleteSessionRequest, call: Call) -> pb.DeleteSessionResponse:
        key = await self._key(request, call)
        await self._sessions.end(UUID(call.require_user().id), UUID(request.id), key)
        call.answer_with(204)
        return pb.DeleteSessionResponse()

    async def ChangePassword(
        self, request: pb.ChangePasswordRequest, call: Call
    ) -> pb.ChangePasswordResponse:
        user = call.require_user()
        key = await self._key(request, call, also=user.session_id)
        await self._service.change_password(
            UUID(user.id), UUID(user.session_id), request.old_password, request.new_password, key
        )
        return pb.ChangePasswordResponse()

    async def GetMe(self, _: pb.GetMeRequest, call: Call) -> account_pb2.Account:
        return _account(await self._service.me(UUID(call.require_user().id)))

    async def GetJwks(self, _: pb.GetJwksRequest, __: Call) -> pb.JwkSet:
        answer = pb.JwkSet()
        for key in self._keys.all:
            x = base64url(key.public.public_bytes_raw())
            answer.keys.add(kty="OKP", crv="Ed25519", x=x, kid=key.kid, use="sig", alg="EdDSA")
        return answer


def _email(address: str, field: str = "email") -> Identifier:
    value = normal_email(address)
    if value is None:
        raise EmailInvalid(field)
    return Identifier(IdentifierKind.EMAIL, value)


def _phone(number: str, field: str = "phone", country: str = "") -> Identifier:
    value = normal_phone(number, country)
    if value is None:
        raise PhoneInvalid(field)
    return Identifier(IdentifierKind.PHONE, value)


def _sought(kind: IdentifierKind, value: str) -> Identifier:
    """What cannot exist has no account; it is looked up all the same, so that both take as long."""
    normal = normal_email(value) if kind is IdentifierKind.EMAIL else normal_phone(value)
    return Identifier(kind, normal or value)


def _device(call: Call) -> str:
    return call.text("user-agent")


def _named(answer: type[Named], done: SignedIn) -> Named:
    return answer(
        id=str(done.account.id),
        username=done.account.username,
        token=done.tokens.access,
        access_token=done.tokens.access,
        refresh_token=done.tokens.refresh,
        expires_in=done.tokens.expires_in,
        user=_account(done.account),
    )


def _reached(answer: type[Reached], done: SignedIn) -> Reached:
    return answer(
        email=done.account.email,
        phone=done.account.phone,
        token=done.tokens.access,
        access_token=done.tokens.access,
        refresh_token=done.tokens.refresh,
        expires_in=done.tokens.expires_in,
        user=_account(done.account),
    )


def _paired(answer: type[Paired], done: SignedIn) -> Paired:
    return answer(
        access_token=done.tokens.access,
        refresh_token=done.tokens.refresh,
        expires_in=done.tokens.expires_in,
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
