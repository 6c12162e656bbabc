"""Domain errors of workspace. The reasons are those of sampan.workspace.v1.WorkspaceErrorReason."""

from __future__ import annotations

from services.mesh.errors import AlreadyExists, FailedPrecondition, NotFound

DOMAIN = "sampan.workspace"


class WorkspaceNotFound(NotFound):
    reason = "WORKSPACE_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such workspace"


class ChannelNotFound(NotFound):
    reason = "CHANNEL_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such channel"


class InviteNotFound(NotFound):
    reason = "INVITE_NOT_FOUND"
    domain = DOMAIN
    detail = "this invite does not work: ask for a new one"


class MemberNotFound(NotFound):
    reason = "MEMBER_NOT_FOUND"
    domain = DOMAIN
    detail = "this person is not in the workspace"


class SlugTaken(AlreadyExists):
    reason = "SLUG_TAKEN"
    domain = DOMAIN
    detail = "this slug is taken: choose another"


class ChannelNameTaken(AlreadyExists):
    reason = "CHANNEL_NAME_TAKEN"
    domain = DOMAIN
    detail = "this name is taken: choose another"


class OwnerCannotLeave(FailedPrecondition):
    reason = "OWNER_CANNOT_LEAVE"
    domain = DOMAIN
    detail = "make somebody else the owner first"


class WorkspaceFull(FailedPrecondition):
    reason = "WORKSPACE_FULL"
    domain = DOMAIN
    detail = "the workspace is full"


class TooManyWorkspaces(FailedPrecondition):
    reason = "TOO_MANY_WORKSPACES"
    domain = DOMAIN
    detail = "you are in too many workspaces: leave one first"


class TooManyChannels(FailedPrecondition):
    reason = "TOO_MANY_CHANNELS"
    domain = DOMAIN
    detail = "the workspace has too many channels: close one first"


class TooManyInvites(FailedPrecondition):
    reason = "TOO_MANY_INVITES"
    domain = DOMAIN
    detail = "the workspace has too many invites: end one first"
