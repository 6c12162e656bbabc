"""Sends codes by the notification service."""

from __future__ import annotations

from uuid import UUID

from sampan.notification.v1 import notification_internal_service_pb2 as pb
from sampan.notification.v1.notification_internal_service_pb2_grpc import NotificationInternalServiceStub
from services.identity.domain import Identifier, IdentifierKind, Purpose
from services.mesh.channels import Peer

_CHANNELS = {IdentifierKind.PHONE: "sms", IdentifierKind.EMAIL: "email"}
_TEMPLATES = {Purpose.LOGIN: "code_login", Purpose.RESET: "code_reset"}


class NotificationSender:
    """Implements codes.Sender by calls to notification."""

    def __init__(self, notification: Peer) -> None:
        self._stub = NotificationInternalServiceStub(notification.channel)

    async def send_code(
        self, message_id: UUID, to: Identifier, purpose: Purpose, code: str, minutes: int
    ) -> None:
        """Sends a code. Raises Unavailable or DeadlineExceeded."""
        parameters = {"code": code, "minutes": str(minutes)}
        await self._deliver(message_id, to, _TEMPLATES[purpose], parameters)

    async def say_no_account(self, message_id: UUID, to: Identifier) -> None:
        """Tells that there is no account whose password could be reset. Raises as `send_code` does."""
        await self._deliver(message_id, to, "no_account", {})

    async def _deliver(
        self, message_id: UUID, to: Identifier, template: str, parameters: dict[str, str]
    ) -> None:
        request = pb.DeliverRequest(
            channel=_CHANNELS[to.kind],
            to=to.value,
            template=template,
            parameters=parameters,
            request_id=str(message_id),
        )
        # Notification starts after identity in the same process.
        await self._stub.Deliver(request, wait_for_ready=True)
