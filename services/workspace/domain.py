"""Values and rules of workspace: who may do what to whom. No I/O, no proto."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from uuid import UUID


class Role(IntEnum):
    """What somebody is in a workspace; more is more rights."""

    MEMBER = 1
    ADMIN = 2
    OWNER = 3

    @property
    def word(self) -> str:
        """As the contract writes it."""
        return self.name.lower()

    @classmethod
    def of(cls, word: str) -> Role:
        """The role of a word of the contract."""
        return cls[word.upper()]

    @property
    def manages(self) -> bool:
        """Whether this role changes the workspace, invites people and keeps its channels in order."""
        return self >= Role.ADMIN

    def may_remove(self, other: Role) -> bool:
        """Whether this role may remove somebody of another: no admin removes an admin, nobody the owner."""
        return self.manages and self > other


class ChannelState(IntEnum):
    """Where a channel is on its way: only an active one is shown."""

    PENDING = 1
    ACTIVE = 2
    CLOSING = 3


class MemberState(IntEnum):
    """Whether somebody is in a channel, or on the way into it or out of it."""

    ADDING = 1
    IN = 2
    REMOVING = 3


@dataclass(frozen=True, slots=True)
class Workspace:
    """A workspace as one of its members sees it."""

    id: UUID
    name: str
    slug: str
    description: str
    owner_id: UUID
    created_at: datetime
    member_count: int
    role: Role


@dataclass(frozen=True, slots=True)
class Member:
    """Somebody in a workspace."""

    user_id: UUID
    role: Role
    joined_at: datetime


@dataclass(frozen=True, slots=True)
class Invite:
    """A way in. `code` is empty but for the one who makes it; kept out of reprs, which end up in logs."""

    id: UUID
    uses_left: int
    expires_at: datetime
    created_by: UUID
    created_at: datetime
    code: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True)
class Channel:
    """A channel, whose dialog lives in messaging under the same id."""

    id: UUID
    workspace_id: UUID
    name: str
    description: str
    is_private: bool
    created_by: UUID
    created_at: datetime


@dataclass(frozen=True, slots=True)
class WorkspaceChanges:
    """What to change in a workspace; None leaves a field as it is."""

    name: str | None = None
    slug: str | None = None
    description: str | None = None

    @property
    def columns(self) -> dict[str, str]:
        """The changes by column."""
        name = None if self.name is None else normal_name(self.name)
        given = {"name": name, "slug": self.slug, "description": self.description}
        return {column: value for column, value in given.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ChannelChanges:
    """What to change in a channel; None leaves a field as it is."""

    name: str | None = None
    description: str | None = None
    is_private: bool | None = None

    @property
    def columns(self) -> dict[str, str | bool]:
        """The changes by column."""
        columns: dict[str, str | bool] = {}
        if self.name is not None:
            columns |= {"name": normal_name(self.name), "name_key": name_key(self.name)}
        if self.description is not None:
            columns["description"] = self.description
        if self.is_private is not None:
            columns["is_private"] = self.is_private
        return columns


def normal_name(name: str) -> str:
    """A name as it is kept: without spaces around it."""
    return name.strip() or name


def name_key(name: str) -> str:
    """What two names share that people would take for the same, whatever their case and form."""
    return unicodedata.normalize("NFKC", normal_name(name)).casefold()


def may_change_channel(role: Role, user_id: UUID, created_by: UUID) -> bool:
    """Whether somebody may change or close a channel, or take people out: its maker, and who manages."""
    return role.manages or user_id == created_by
