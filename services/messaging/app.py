"""Composition root of messaging."""

from __future__ import annotations

from dataclasses import dataclass

from services.mesh.app import App
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.foundation import Foundation
from services.mesh.group_commit import Limits
from services.mesh.idempotency import Idempotency
from services.mesh.identity_client import IdentityClient
from services.mesh.settings import MeshSettings
from services.messaging import payment_events, workspace_events
from services.messaging.accounts_client import AccountsClient
from services.messaging.acks import AckService
from services.messaging.app_live import Live
from services.messaging.channels import ChannelService
from services.messaging.dialogs import DialogService
from services.messaging.members import MemberService
from services.messaging.messages import MessageService
from services.messaging.notices import NoticeService
from services.messaging.people import PeopleService, PeopleTokens
from services.messaging.posting import PostingStore
from services.messaging.publishing import Publisher
from services.messaging.reactions import ReactionService
from services.messaging.receipts import ReceiptService
from services.messaging.retention import Retention
from services.messaging.servicer import MessagingServicer
from services.messaging.servicer_acks import AckMethods
from services.messaging.servicer_dialogs import DialogMethods
from services.messaging.servicer_drafts import Drafts
from services.messaging.servicer_internal import MessagingInternalServicer
from services.messaging.servicer_messages import MessageMethods
from services.messaging.servicer_people import PeopleMethods
from services.messaging.settings import MessagingSettings


async def build(
    mesh: MeshSettings,
    settings: MessagingSettings | None = None,
    clock: Clock = system_clock,
    publisher: Publisher | None = None,
) -> App:
    """Builds the service. Its database and identity are first asked when it serves."""
    settings = settings or MessagingSettings()
    base = Foundation("messaging", mesh, settings)
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)
    live = Live(base, mesh, settings, clock)
    parts = _Parts(base, settings, base.idempotency(), AccountsClient(to_identity), publisher or live.hub)
    people = parts.people()
    messages = parts.messages()
    drafts = Drafts(base.vault.derive("drafts"))
    retention = Retention(
        base.database, base.log, days=settings.retention_days, pause=settings.retention_sweep_seconds
    )
    notices = NoticeService(base.database, parts.publisher, messages)
    base.consume(workspace_events.CONTEXT, workspace_events.WorkspaceEvents(parts.publisher).handlers)
    # Its effect is in the log already, written by group commit.
    base.consume(payment_events.CONTEXT, payment_events.PaymentEvents(notices).handlers, together=True)
    return App(
        name="messaging",
        settings=settings,
        servicers={
            "sampan.messaging.v1.MessagingService": parts.servicer(live, drafts, messages, people),
            "sampan.messaging.v1.MessagingInternalService": parts.internal(drafts, notices, people),
        },
        keys=identity,
        revocations=identity.revocations,
        background=(retention.run, *live.background, *base.background),
        attach=live.attach,
        drain=live.drain,
        closers=(live.close, to_identity.close, base.close),
        observed=(*base.observed, *live.observed, to_identity.observe),
    )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What use cases are made of."""

    base: Foundation
    settings: MessagingSettings
    idempotency: Idempotency
    accounts: AccountsClient
    publisher: Publisher

    def messages(self) -> MessageService:
        """Messages, which are written in batches."""
        settings = self.settings
        store = PostingStore(self.base.fast_database("posting", settings.posting_pool), self.publisher)
        limits = Limits(
            batch=settings.posting_batch,
            enough=max(1, settings.posting_batch // 2),
            queue=settings.posting_queue,
            parallel=settings.posting_pool,
        )
        posting = self.base.group_commit(store, limits, lambda draft: draft.size)
        return MessageService(self.base.database, posting, self.publisher, self.idempotency)

    def people(self) -> PeopleService:
        """Blocks and reports."""
        tokens = PeopleTokens(self.base.page_tokens("blocks"), self.base.page_tokens("reports"))
        return PeopleService(self.base.database, self.accounts, tokens, self.idempotency)

    def servicer(
        self, live: Live, drafts: Drafts, messages: MessageService, people: PeopleService
    ) -> MessagingServicer:
        """What people call."""
        database, publisher, idempotency = self.base.database, self.publisher, self.idempotency
        written = MessageMethods(
            drafts,
            messages,
            ReactionService(database, publisher, idempotency, most=self.settings.reactions),
            ReceiptService(database, publisher, idempotency),
            idempotency,
        )
        return MessagingServicer(
            self.dialogs(),
            written,
            PeopleMethods(people, idempotency),
            AckMethods(AckService(database, live.keep, idempotency), idempotency),
            live.methods(written),
        )

    def dialogs(self) -> DialogMethods:
        """Dialogs and who is in them."""
        common = (self.base.database, self.accounts, self.publisher)
        most = self.settings.group_members
        return DialogMethods(
            DialogService(*common, self.base.page_tokens("dialogs"), self.idempotency, most=most),
            MemberService(*common, self.base.page_tokens("members"), self.idempotency, most=most),
            self.idempotency,
        )

    def internal(
        self, drafts: Drafts, notices: NoticeService, people: PeopleService
    ) -> MessagingInternalServicer:
        """What other services call."""
        database, publisher, idempotency = self.base.database, self.publisher, self.idempotency
        return MessagingInternalServicer(
            ChannelService(database, publisher, idempotency, most=self.settings.channel_members),
            notices,
            people,
            drafts,
            idempotency,
        )
