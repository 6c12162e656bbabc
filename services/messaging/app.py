"""Composition root of messaging."""

from __future__ import annotations

import base64
from collections.abc import Awaitable, Callable

from services.mesh import logs
from services.mesh.app import App
from services.mesh.bus import Bus
from services.mesh.channels import Peer
from services.mesh.clock import Clock, system_clock
from services.mesh.consumer import Consumer
from services.mesh.database import Database
from services.mesh.fast_database import FastDatabase
from services.mesh.group_commit import GroupCommit, Limits
from services.mesh.idempotency import Idempotency, Sweeper
from services.mesh.identity_client import IdentityClient
from services.mesh.metrics import Observe
from services.mesh.paging import PageTokens
from services.mesh.settings import MeshSettings
from services.mesh.vault import Vault
from services.messaging import payment_events, workspace_events
from services.messaging.accounts_client import AccountsClient
from services.messaging.acks import AckService
from services.messaging.app_live import Live
from services.messaging.channels import ChannelService, NoticeService
from services.messaging.dialogs import DialogService
from services.messaging.members import MemberService
from services.messaging.messages import MessageService, Posting
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

# Seconds that messages which wait get to be written, when the service stops.
_GRACE = 5.0


async def build(
    mesh: MeshSettings,
    settings: MessagingSettings | None = None,
    clock: Clock = system_clock,
    publisher: Publisher | None = None,
) -> App:
    """Builds the service. Its database and identity are first asked when it serves."""
    settings = settings or MessagingSettings()
    log = logs.logger("messaging")
    url = settings.database_url.get_secret_value()
    timeout = settings.database_timeout
    database = Database(url, pool=settings.database_pool, timeout=timeout, name="messaging")
    fast = FastDatabase(url, pool=settings.posting_pool, timeout=timeout, name="messaging")
    vault = Vault(base64.b64decode(settings.master_key.get_secret_value()))
    idempotency = Idempotency(vault.derive("idempotency"))
    to_identity = Peer(mesh.peers["identity"], "identity", settings)
    identity = IdentityClient(to_identity, clock)
    accounts = AccountsClient(to_identity)
    live = Live(mesh, settings, vault, clock, log)
    publisher = publisher or live.hub

    def tokens(scope: str) -> PageTokens:
        return PageTokens(vault.derive("page-tokens"), scope)

    posting: Posting = GroupCommit(
        PostingStore(fast, publisher),
        limits=Limits(
            batch=settings.posting_batch, queue=settings.posting_queue, parallel=settings.posting_pool
        ),
        size=lambda draft: draft.size,
        log=log,
    )
    drafts = Drafts(vault.derive("drafts"))
    messages = MessageService(database, posting, publisher, idempotency)
    people_tokens = PeopleTokens(tokens("blocks"), tokens("reports"))
    people = PeopleService(database, accounts, people_tokens, idempotency)
    written = MessageMethods(
        drafts,
        messages,
        ReactionService(database, publisher, idempotency, most=settings.reactions),
        ReceiptService(database, publisher, idempotency),
        idempotency,
    )
    servicer = MessagingServicer(
        DialogMethods(
            DialogService(
                database,
                accounts,
                publisher,
                tokens("dialogs"),
                idempotency,
                most=settings.group_members,
            ),
            MemberService(
                database,
                accounts,
                publisher,
                tokens("members"),
                idempotency,
                most=settings.group_members,
            ),
            idempotency,
        ),
        written,
        PeopleMethods(people, idempotency),
        AckMethods(AckService(database, live.keep, idempotency), idempotency),
        live.methods(written),
    )
    notices = NoticeService(database, publisher, messages)
    internal = MessagingInternalServicer(
        ChannelService(database, publisher, idempotency, most=settings.channel_members),
        notices,
        people,
        drafts,
        idempotency,
    )
    retention = Retention(database, log, days=settings.retention_days, pause=settings.retention_sweep_seconds)

    background: list[Callable[[], Awaitable[None]]] = [
        Sweeper(database, settings.idempotency_keep_hours, log).run,
        retention.run,
        *live.background,
    ]
    observed: list[Observe] = []
    bus = Bus(settings.nats_url.get_secret_value(), "messaging", log) if settings.nats_url else None
    if bus:
        background.append(bus.run)
        for context, handlers, together in (
            (workspace_events.CONTEXT, workspace_events.WorkspaceEvents(publisher).handlers, False),
            # Its effect is in the log already, written by group commit.
            (payment_events.CONTEXT, payment_events.PaymentEvents(notices).handlers, True),
        ):
            consumer = Consumer("messaging", context, handlers, bus, database, mesh, log, together=together)
            background += [consumer.run, consumer.replay, consumer.purge]
            observed.append(consumer.observe)

    async def close() -> None:
        if bus:
            await bus.close()
        await posting.close(_GRACE)
        await live.close()
        await fast.close()
        await to_identity.close()
        await database.close()

    return App(
        name="messaging",
        settings=settings,
        servicers={
            "sampan.messaging.v1.MessagingService": servicer,
            "sampan.messaging.v1.MessagingInternalService": internal,
        },
        keys=identity,
        revocations=identity.revocations,
        background=background,
        attach=live.attach,
        drain=live.drain,
        closers=(close,),
        observed=observed,
    )
