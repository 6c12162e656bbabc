"""proto <-> domain for sampan.messaging.v1.MessagingInternalService."""

from __future__ import annotations

import json
from uuid import UUID

from sampan.messaging.v1 import messaging_internal_service_pb2 as pb
from services.mesh.call import Call
from services.mesh.idempotency import Idempotency
from services.messaging.channels import Channel, ChannelService
from services.messaging.errors import wrong
from services.messaging.notices import Notice, NoticeService
from services.messaging.people import PeopleService
from services.messaging.servicer_drafts import Drafts
from services.messaging.servicer_shapes import ROLES


class MessagingInternalServicer:
    """Implements sampan.messaging.v1.MessagingInternalService."""

    def __init__(
        self,
        channels: ChannelService,
        notices: NoticeService,
        people: PeopleService,
        drafts: Drafts,
        idempotency: Idempotency,
    ) -> None:
        self._key = idempotency.key
        self._channels = channels
        self._notices = notices
        self._people = people
        self._drafts = drafts

    async def CreateChannel(self, request: pb.CreateChannelRequest, call: Call) -> pb.CreateChannelResponse:
        await self._channels.create(
            _channel(request),
            UUID(request.workspace_id),
            UUID(request.created_by),
            [UUID(one) for one in request.members],
            await self._key(request, call),
        )
        return pb.CreateChannelResponse()

    async def UpdateChannel(self, request: pb.UpdateChannelRequest, call: Call) -> pb.UpdateChannelResponse:
        await self._channels.update(_channel(request), UUID(request.actor_id), await self._key(request, call))
        return pb.UpdateChannelResponse()

    async def DeleteChannel(self, request: pb.DeleteChannelRequest, call: Call) -> pb.DeleteChannelResponse:
        await self._channels.close(UUID(request.dialog_id), await self._key(request, call))
        return pb.DeleteChannelResponse()

    async def AddToChannel(self, request: pb.AddToChannelRequest, call: Call) -> pb.AddToChannelResponse:
        await self._channels.add(
            UUID(request.dialog_id),
            UUID(request.actor_id),
            UUID(request.user_id),
            ROLES[request.role],
            await self._key(request, call),
        )
        return pb.AddToChannelResponse()

    async def RemoveFromChannels(
        self, request: pb.RemoveFromChannelsRequest, call: Call
    ) -> pb.RemoveFromChannelsResponse:
        await self._channels.remove(
            UUID(request.workspace_id),
            UUID(request.actor_id),
            UUID(request.user_id),
            UUID(request.dialog_id) if request.dialog_id else None,
            await self._key(request, call),
        )
        return pb.RemoveFromChannelsResponse()

    async def PostNotice(self, request: pb.PostNoticeRequest, _: Call) -> pb.PostNoticeResponse:
        sender, recipient = UUID(request.sender_id), UUID(request.recipient_id)
        if sender == recipient:
            raise wrong("recipient_id", "recipient_id.other", "must be somebody other than the sender")
        attributes = json.dumps(dict(request.attributes), sort_keys=True)
        notice = Notice(
            sender_id=sender,
            recipient_id=recipient,
            type=request.type,
            text=request.text,
            attributes=attributes,
            client_message_id=request.client_message_id,
            request_hash=self._drafts.hash(request.type, request.text, attributes),
        )
        posted = await self._notices.post(notice)
        return pb.PostNoticeResponse(dialog_id=str(posted.dialog_id), message_id=str(posted))

    async def FilterContacts(self, request: pb.FilterContactsRequest, _: Call) -> pb.FilterContactsResponse:
        others = [UUID(one) for one in request.others]
        found = await self._people.contacts(UUID(request.user_id), others)
        return pb.FilterContactsResponse(user_ids=map(str, found))


def _channel(request: pb.CreateChannelRequest | pb.UpdateChannelRequest) -> Channel:
    return Channel(UUID(request.dialog_id), request.title, request.description, request.is_private)
