"""proto <-> domain for sampan.identity.v1.IdentityInternalService."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from uuid import UUID

from sampan.identity.v1 import identity_internal_service_pb2 as pb
from services.identity.contacts import Contacts
from services.identity.domain import AccountStatus, IdentifierKind, Standing
from services.identity.keyring import KeyRing
from services.identity.recent_revocations import RecentRevocations
from services.identity.service import IdentityService
from services.identity.standings import Standings
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.mesh.revocation import Revocation

_CHANNELS = {IdentifierKind.PHONE: "sms", IdentifierKind.EMAIL: "email"}


class IdentityInternalServicer:
    """Implements sampan.identity.v1.IdentityInternalService."""

    def __init__(
        self,
        service: IdentityService,
        contacts: Contacts,
        keys: KeyRing,
        revocations: RecentRevocations,
        standings: Standings,
        idempotency: Idempotency,
    ) -> None:
        self._service = service
        self._standings = standings
        self._contacts = contacts
        self._keys = keys
        self._revocations = revocations
        self._key = idempotency.key

    async def WatchRevocations(
        self, request: pb.WatchRevocationsRequest, _: Call
    ) -> AsyncGenerator[pb.WatchRevocationsResponse]:
        async with aclosing(self._revocations.watch(request.after)) as pages:
            async for page in pages:
                told = [_ended(one) for one in page.revocations]
                yield pb.WatchRevocationsResponse(revocations=told, complete=page.complete)

    async def ListRevocations(
        self, request: pb.ListRevocationsRequest, _: Call
    ) -> pb.ListRevocationsResponse:
        found = await self._revocations.after(request.after)
        return pb.ListRevocationsResponse(revocations=[_ended(one) for one in found])

    async def SetRole(self, request: pb.SetRoleRequest, call: Call) -> pb.SetRoleResponse:
        user_id, roles = await self._service.set_role(
            request.user, request.role, granted=request.granted, key=await self._key(request, call)
        )
        return pb.SetRoleResponse(user_id=str(user_id), roles=roles)

    async def SetKycTier(self, request: pb.SetKycTierRequest, call: Call) -> pb.SetKycTierResponse:
        key = await self._key(request, call)
        standing = await self._standings.set_kyc_tier(request.user, request.kyc_tier, key)
        return pb.SetKycTierResponse(standing=_shown(standing))

    async def SetStatus(self, request: pb.SetStatusRequest, call: Call) -> pb.SetStatusResponse:
        key, status = await self._key(request, call), AccountStatus(request.status)
        standing = await self._standings.set_status(
            request.user, status, key, end_sessions=request.end_sessions
        )
        return pb.SetStatusResponse(standing=_shown(standing))

    async def GetContact(self, request: pb.GetContactRequest, _: Call) -> pb.GetContactResponse:
        found = await self._contacts.of_session(UUID(request.account_id), UUID(request.session_id))
        if found.identifier is None:
            return pb.GetContactResponse(device=found.device)
        channel = _CHANNELS[found.identifier.kind]
        return pb.GetContactResponse(channel=channel, to=found.identifier.value, device=found.device)

    async def ListAccounts(self, request: pb.ListAccountsRequest, _: Call) -> pb.ListAccountsResponse:
        found = await self._service.existing([UUID(one) for one in request.ids])
        return pb.ListAccountsResponse(ids=[str(one) for one in found])

    async def RotateKeys(self, request: pb.RotateKeysRequest, call: Call) -> pb.RotateKeysResponse:
        key = await self._keys.rotate(await self._key(request, call))
        answer = pb.RotateKeysResponse(kid=key.kid)
        answer.active_from.FromDatetime(key.active_from)
        return answer


def _shown(standing: Standing) -> pb.Standing:
    return pb.Standing(
        user_id=str(standing.account_id), status=standing.status.value, kyc_tier=standing.kyc_tier
    )


def _ended(revocation: Revocation) -> pb.Revocation:
    shown = pb.Revocation(number=revocation.number, session_id=revocation.session_id)
    shown.until.FromNanoseconds(int(revocation.until * 1e9))
    return shown
