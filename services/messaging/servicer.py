"""Implements sampan.messaging.v1.MessagingService: its methods by subject, and those of live delivery."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Protocol

from sampan.messaging.v1 import frame_pb2
from sampan.messaging.v1 import messaging_service_pb2 as pb
from services.mesh.call import Call
from services.messaging.servicer_acks import AckMethods
from services.messaging.servicer_dialogs import DialogMethods
from services.messaging.servicer_messages import MessageMethods
from services.messaging.servicer_people import PeopleMethods


class LiveMethods(Protocol):
    """What live delivery answers."""

    def Subscribe(
        self, request: pb.SubscribeRequest, call: Call
    ) -> AsyncIterator[frame_pb2.Frame | bytes]: ...

    def Connect(
        self, requests: AsyncIterator[frame_pb2.ConnectRequest], call: Call
    ) -> AsyncIterator[frame_pb2.Frame | bytes]: ...


class MessagingServicer:
    """All methods; each is that of the part which has it."""

    def __init__(
        self,
        dialogs: DialogMethods,
        messages: MessageMethods,
        people: PeopleMethods,
        acks: AckMethods,
        live: LiveMethods,
    ) -> None:
        self._parts = (dialogs, messages, people, acks, live)

    def __getattr__(self, name: str) -> object:
        for part in self._parts:
            if hasattr(part, name):
                return getattr(part, name)
        raise AttributeError(name)
