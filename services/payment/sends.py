"""Use cases of moving money between wallets at once: people's payments, and what services move."""

from __future__ import annotations

from collections.abc import Mapping
from uuid import UUID

from services.mesh.ids import uuid7
from services.payment.domain import Draft, FeeRule, Kind, Payment, Posted
from services.payment.events import Events
from services.payment.keys import RequestKeys
from services.payment.ledger import Ledger
from services.payment.notes import Notes

_SEND = "SendMoney"
_FREE = FeeRule()


class SendService:
    """People's payments. `fees` by currency."""

    def __init__(
        self, ledger: Ledger, keys: RequestKeys, notes: Notes, events: Events, fees: Mapping[str, FeeRule]
    ) -> None:
        self._ledger = ledger
        self._keys = keys
        self._notes = notes
        self._events = events
        self._fees = fees

    async def send(self, payment: Payment, request_id: str) -> Posted:
        """Sends money. Raises as Ledger.post."""
        transaction_id, caller = uuid7(), str(payment.sender)
        fee = self._fees.get(payment.currency, _FREE).of(payment.amount)
        note = None
        if payment.description:
            note = await self._notes.seal(payment.sender, transaction_id, payment.description)
        draft = Draft(
            id=transaction_id,
            kind=Kind.SEND,
            caller=caller,
            debit=payment.wallet_id,
            owner=payment.sender,
            recipient=payment.recipient,
            amount=payment.amount,
            currency=payment.currency,
            fee=fee,
            fee_id=uuid7() if fee else None,
            key=self._keys.key(caller, _SEND, request_id),
            request_hash=self._hash(payment) if request_id else None,
            person_id=payment.sender,
            note=note,
            told=self._events.sent(transaction_id, caller, payment),
        )
        return await self._ledger.post(draft)

    def _hash(self, payment: Payment) -> bytes:
        said = (payment.wallet_id, payment.recipient, payment.amount, payment.currency, payment.description)
        return self._keys.hash(*map(str, said))


class TransferService:
    """What services move between wallets."""

    def __init__(self, ledger: Ledger, keys: RequestKeys) -> None:
        self._ledger = ledger
        self._keys = keys

    async def post(
        self,
        caller: str,
        debit: UUID,
        credit: UUID,
        amount: int,
        currency: str,
        refers_to: UUID | None,
        request_id: str,
    ) -> Posted:
        """Moves an amount between two wallets. Raises as Ledger.post."""
        said = (debit, credit, amount, currency, refers_to)
        draft = Draft(
            id=uuid7(),
            kind=Kind.TRANSFER,
            caller=caller,
            debit=debit,
            credit=credit,
            amount=amount,
            currency=currency,
            refers_to=refers_to,
            key=self._keys.key(caller, "CreateTransfers", request_id),
            request_hash=self._keys.hash(*map(str, said)) if request_id else None,
        )
        return await self._ledger.post(draft)
