"""Domain errors of messaging. The reasons are those of sampan.messaging.v1.MessagingErrorReason."""

from __future__ import annotations

from services.mesh.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
    Violation,
)

DOMAIN = "sampan.messaging"


class DialogNotFound(NotFound):
    reason = "DIALOG_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such dialog"


class MessageNotFound(NotFound):
    reason = "MESSAGE_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such message"


class ReplyNotFound(NotFound):
    reason = "REPLY_NOT_FOUND"
    domain = DOMAIN
    detail = "the message that this answers is not in this dialog"


class UserNotFound(NotFound):
    reason = "USER_NOT_FOUND"
    domain = DOMAIN
    detail = "there is no such person"


class MemberNotFound(NotFound):
    reason = "MEMBER_NOT_FOUND"
    domain = DOMAIN
    detail = "this person is not in the dialog"


class Blocked(PermissionDenied):
    reason = "BLOCKED"
    domain = DOMAIN
    detail = "you cannot write to this person"


class DialogKind(FailedPrecondition):
    reason = "DIALOG_KIND"
    domain = DOMAIN
    detail = "this is only for groups"


class DialogFull(FailedPrecondition):
    reason = "DIALOG_FULL"
    domain = DOMAIN
    detail = "the dialog is full"


class MessageDeleted(FailedPrecondition):
    reason = "MESSAGE_DELETED"
    domain = DOMAIN
    detail = "the message was deleted"


class TooManyReactions(FailedPrecondition):
    reason = "TOO_MANY_REACTIONS"
    domain = DOMAIN
    detail = "there are 20 different reactions already"


class ClientMessageIdReused(FailedPrecondition):
    reason = "CLIENT_MESSAGE_ID_REUSED"
    domain = DOMAIN
    detail = "this client_message_id was used for another message"


class ResumeTokenInvalid(InvalidArgument):
    reason = "RESUME_TOKEN_INVALID"
    domain = DOMAIN
    detail = "the resume token is not valid: begin anew without it"


class ResumeTokenAhead(InvalidArgument):
    reason = "RESUME_TOKEN_AHEAD"
    domain = DOMAIN
    detail = "the resume token is ahead of the log: begin anew without it"


class TooManyStreams(Overloaded):
    reason = "TOO_MANY_STREAMS"
    domain = DOMAIN
    detail = "too many live streams: close one"


class FrameInvalid(InvalidArgument):
    reason = "FRAME_INVALID"
    domain = DOMAIN
    detail = "the frame cannot be read"


class FrameFlood(Overloaded):
    reason = "FRAME_FLOOD"
    domain = DOMAIN
    detail = "too many frames"


class Draining(Unavailable):
    reason = "DRAINING"
    domain = DOMAIN
    detail = "the server is about to stop: connect again"


class SessionEnded(Unauthenticated):
    reason = "SESSION_ENDED"
    domain = DOMAIN
    detail = "the session has ended"


def wrong(field: str, rule: str, message: str) -> InvalidArgument:
    """A field that breaks a rule which the contract cannot say by itself."""
    return InvalidArgument(
        "some fields break their rules: see errors", violations=(Violation(field, rule, message),)
    )
