"""Domain values in the words of the contract, and ids out of them."""

from __future__ import annotations

from uuid import UUID

from sampan.messaging.v1 import dialog_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh import ids
from services.mesh.call import Call
from services.messaging import events
from services.messaging.domain import (
    SMALL,
    Block,
    Dialog,
    Member,
    MessageId,
    Report,
    Role,
    message_id,
    name_of,
)
from services.messaging.errors import MessageNotFound

ROLES = {"": Role.MEMBER, **{name_of(role): role for role in Role}}


def user_of(call: Call) -> UUID:
    """Who calls."""
    return ids.read(call.require_user().id)


def where(text: str) -> MessageId:
    """Where a message is. Raises MessageNotFound for what is no id."""
    found = MessageId.read(text)
    if found is None:
        raise MessageNotFound
    return found


def member(given: Member, among: int) -> dialog_pb2.Member:
    """Somebody in a dialog of so many. Where there are many, nobody sees what others have read."""
    return dialog_pb2.Member(
        user_id=str(given.user_id),
        role=name_of(given.role),
        joined_at=events.moment(given.joined_at),
        read_seq=given.read_seq if among <= SMALL else 0,
    )


def dialog(given: Dialog) -> dialog_pb2.Dialog:
    """A dialog as its viewer sees it."""
    return dialog_pb2.Dialog(
        id=str(given.id),
        kind=name_of(given.kind),
        title=given.title,
        description=given.description,
        workspace_id="" if given.workspace_id is None else str(given.workspace_id),
        is_private=given.is_private,
        created_by=str(given.created_by),
        created_at=events.moment(given.created_at),
        updated_at=events.moment(given.active_at),
        members=[member(one, given.member_count) for one in given.members],
        member_count=given.member_count,
        last_message=None if given.last_message is None else events.message(given.last_message),
        last_seq=given.seq,
        first_seq=given.first_seq,
        read_seq=given.read_seq,
        unread_count=given.unread,
        mention_count=given.mentioned,
        muted=given.muted,
        role=name_of(given.role),
    )


def block(given: Block) -> pb.Block:
    """Somebody who is blocked."""
    return pb.Block(user_id=str(given.user_id), created_at=events.moment(given.created_at))


def report(given: Report) -> pb.Report:
    """What somebody reported."""
    of = given.of
    return pb.Report(
        id=str(of.id),
        message_id=message_id(of.dialog_id, of.seq),
        sender_id=str(of.sender_id),
        reporter_id=str(of.reporter_id),
        category=of.category,
        comment=of.comment,
        text=of.text,
        created_at=events.moment(given.created_at),
    )
