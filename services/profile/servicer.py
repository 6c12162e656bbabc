"""proto <-> domain for sampan.profile.v1."""

from __future__ import annotations

from uuid import UUID

from sampan.profile.v1 import profile_pb2, profile_service_pb2
from services.mesh.call import Call
from services.profile.domain import Changes, Profile, Viewer
from services.profile.service import ProfileService


class ProfileServicer:
    """Implements sampan.profile.v1.ProfileService."""

    def __init__(self, service: ProfileService) -> None:
        self._service = service

    async def CreateProfile(
        self, request: profile_service_pb2.CreateProfileRequest, call: Call
    ) -> profile_pb2.Profile:
        given = Changes(
            display_name=request.display_name,
            bio=request.bio,
            avatar_url=request.avatar_url,
            bank_account_name=request.bank_account_name,
            bank_account_holder=request.bank_account_holder,
            bank_account_number=request.bank_account_number,
        )
        request_id = UUID(request.request_id) if request.request_id else None
        made = await self._service.create(_viewer(call), given, request_id)
        call.created(f"/v1/profile/{made.id}")
        return _profile(made)

    async def GetOwnProfile(
        self, _: profile_service_pb2.GetOwnProfileRequest, call: Call
    ) -> profile_pb2.Profile:
        return _profile(await self._service.own(_viewer(call)))

    async def ListProfiles(
        self, request: profile_service_pb2.ListProfilesRequest, _: Call
    ) -> profile_service_pb2.ListProfilesResponse:
        found = await self._service.list(request.limit, request.page_token)
        return profile_service_pb2.ListProfilesResponse(
            profiles=[_profile(one) for one in found.page.items],
            next_page_token=found.page.next_page_token,
            has_more=found.page.has_more,
            total=found.total,
        )

    async def GetProfile(
        self, request: profile_service_pb2.GetProfileRequest, call: Call
    ) -> profile_pb2.Profile:
        return _profile(await self._service.by_id(_viewer(call), UUID(request.id)))

    async def GetProfileByUser(
        self, request: profile_service_pb2.GetProfileByUserRequest, call: Call
    ) -> profile_pb2.Profile:
        return _profile(await self._service.of_user(_viewer(call), UUID(request.user_id)))

    async def UpdateProfile(
        self, request: profile_service_pb2.UpdateProfileRequest, call: Call
    ) -> profile_pb2.Profile:
        changes = Changes(
            **{field.name: value for field, value in request.ListFields() if field.name != "id"}
        )
        return _profile(await self._service.update(_viewer(call), UUID(request.id), changes))

    async def DeleteProfile(
        self, request: profile_service_pb2.DeleteProfileRequest, call: Call
    ) -> profile_service_pb2.DeleteProfileResponse:
        await self._service.delete(_viewer(call), UUID(request.id))
        call.answer_with(204)
        return profile_service_pb2.DeleteProfileResponse()


def _viewer(call: Call) -> Viewer:
    user = call.require_user()
    return Viewer(UUID(user.id), is_admin="admin" in user.roles)


def _profile(profile: Profile) -> profile_pb2.Profile:
    """What is not for the viewer is absent, so that REST does not show it as empty."""
    shown = profile_pb2.Profile(
        id=str(profile.id),
        user_id=str(profile.user_id),
        display_name=profile.display_name,
        bio=profile.bio,
        avatar_url=profile.avatar_url,
    )
    shown.created_at.FromDatetime(profile.created_at)
    if profile.bank is not None:
        shown.bank_account_name = profile.bank.name
        shown.bank_account_holder = profile.bank.holder
        shown.bank_account_number = profile.bank.number
        shown.updated_at.FromDatetime(profile.updated_at)
    return shown
