"""Domain errors of profile. The reasons are those of sampan.profile.v1.ProfileErrorReason."""

from __future__ import annotations

from services.mesh.errors import AlreadyExists

DOMAIN = "sampan.profile"


class ProfileExists(AlreadyExists):
    reason = "PROFILE_EXISTS"
    domain = DOMAIN
    detail = "you have a profile already: change that one"
