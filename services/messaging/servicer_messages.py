"""proto <-> domain: messages, reactions, receipts."""

from __future__ import annotations

from uuid import UUID

from sampan.messaging.v1 import frame_pb2, message_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.errors import SampanError
from services.mesh.idempotency import Idempotency
from services.mesh.lanes import Answer
from services.messaging import events
from services.messaging import servicer_shapes as shapes
from services.messaging.domain import Draft, MessageId, message_id
from services.messaging.errors import ReplyNotFound
from services.messaging.messages import MessageService
from services.messaging.posting import Posted
from services.messaging.reactions import ReactionService
from services.messaging.receipts import ReceiptService
from services.messaging.servicer_drafts import Drafts


class MessageMethods:
    """Methods of sampan.messaging.v1.MessagingService."""

    def __init__(
        self,
        drafts: Drafts,
        messages: MessageService,
        reactions: ReactionService,
        receipts: ReceiptService,
        idempotency: Idempotency,
    ) -> None:
        self._drafts = drafts
        self._messages = messages
        self._reactions = reactions
        self._receipts = receipts
        self._key = idempotency.key

    async def SendMessage(self, request: pb.SendMessageRequest, call: Call) -> bytes | message_pb2.Message:
        draft = self._drafts.of(shapes.user_of(call), request)
        posted = await self._messages.send(draft)
        call.created(f"/v1/messages/{message_id(draft.dialog_id, posted.seq)}")
        if posted.new is not None:
            return posted.new.message
        return await self.known(draft, posted)

    def draft(self, given: frame_pb2.Send, call: Call) -> Draft:
        """What a frame of a stream has written."""
        return self._drafts.of(shapes.user_of(call), given)

    def begin(self, draft: Draft, ends: float, answer: Answer[Posted | SampanError]) -> None:
        """SendMessage for it: `answer` is told how it ends, and no task waits for that."""
        self._messages.begin(draft, ends, answer)

    async def known(self, draft: Draft, posted: Posted) -> message_pb2.Message:
        """A message that was there already when it was sent."""
        return events.message(await self._messages.known(draft, posted))

    async def ListMessages(self, request: pb.ListMessagesRequest, call: Call) -> pb.ListMessagesResponse:
        dialog_id = UUID(request.dialog_id)
        found = await self._messages.page(
            shapes.user_of(call),
            dialog_id,
            before=request.before_seq,
            after=request.after_seq,
            limit=request.limit,
            thread=_thread(request.thread_id, dialog_id),
        )
        return pb.ListMessagesResponse(
            messages=[events.message(one) for one in found.items], has_more=found.has_more
        )

    async def GetMessage(self, request: pb.GetMessageRequest, call: Call) -> message_pb2.Message:
        found = await self._messages.get(shapes.user_of(call), shapes.where(request.id))
        return events.message(found)

    async def EditMessage(self, request: pb.EditMessageRequest, call: Call) -> message_pb2.Message:
        shown = await self._messages.edit(
            shapes.user_of(call),
            shapes.where(request.id),
            request.content.text,
            [UUID(one) for one in request.mentions],
            await self._key(request, call),
        )
        return events.message(shown)

    async def ListEdits(self, request: pb.ListEditsRequest, call: Call) -> pb.ListEditsResponse:
        found = await self._messages.edits(shapes.user_of(call), shapes.where(request.id))
        return pb.ListEditsResponse(
            edits=[
                message_pb2.Edit(text=one.text, replaced_at=events.moment(one.replaced_at)) for one in found
            ]
        )

    async def DeleteMessage(self, request: pb.DeleteMessageRequest, call: Call) -> pb.DeleteMessageResponse:
        key = await self._key(request, call)
        await self._messages.delete(shapes.user_of(call), shapes.where(request.id), key)
        call.answer_with(204)
        return pb.DeleteMessageResponse()

    async def AddReaction(self, request: pb.AddReactionRequest, call: Call) -> message_pb2.Message:
        key = await self._key(request, call)
        where = shapes.where(request.id)
        return events.message(await self._reactions.add(shapes.user_of(call), where, request.emoji, key))

    async def RemoveReaction(
        self, request: pb.RemoveReactionRequest, call: Call
    ) -> pb.RemoveReactionResponse:
        key = await self._key(request, call)
        await self._reactions.remove(shapes.user_of(call), shapes.where(request.id), request.emoji, key)
        call.answer_with(204)
        return pb.RemoveReactionResponse()

    async def MarkRead(self, request: pb.MarkReadRequest, call: Call) -> pb.MarkReadResponse:
        key = await self._key(request, call)
        now = await self._receipts.mark_read(shapes.user_of(call), shapes.where(request.id), key)
        return pb.MarkReadResponse(
            dialog_id=str(now.dialog_id), read_seq=now.read_seq, unread_count=now.unread
        )

    async def SendTyping(self, request: pb.SendTypingRequest, call: Call) -> pb.SendTypingResponse:
        await self._receipts.typing(shapes.user_of(call), UUID(request.dialog_id))
        return pb.SendTypingResponse()


def _thread(text: str, dialog_id: UUID) -> int | None:
    """Number of a message whose thread is meant. Raises ReplyNotFound for one of another dialog."""
    if not text:
        return None
    found = MessageId.read(text)
    if found is None or found.dialog_id != dialog_id:
        raise ReplyNotFound
    return found.seq
