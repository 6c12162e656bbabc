"""Letters as they lie in the database: sealed, found by keyed hashes."""

from __future__ import annotations

import json
from dataclasses import asdict
from uuid import UUID

from services.mesh.vault import Vault, keyed_hash, seal, unseal
from services.notification.domain import Letter, Order, normal_address


class Letters:
    """Seals and opens letters, with keys that are derived from the master key."""

    def __init__(self, vault: Vault) -> None:
        self.key_id = vault.key_id
        self._sealing = vault.derive("letters")
        self._recipients = vault.derive("recipient-lookup")
        self._orders = vault.derive("order-hash")

    def seal(self, delivery_id: UUID, letter: Letter) -> bytes:
        """A letter as it is stored with a delivery."""
        text = json.dumps(asdict(letter), ensure_ascii=False)
        return seal(self._sealing, self.key_id, text.encode(), _place(delivery_id))

    def open(self, delivery_id: UUID, sealed: bytes) -> Letter:
        """The letter of `seal`. Raises SealBroken."""
        return Letter(**json.loads(unseal(self._sealing, sealed, _place(delivery_id))))

    def recipient(self, to: str) -> bytes:
        """The keyed hash by which deliveries to an address are found."""
        return keyed_hash(self._recipients, normal_address(to))

    def fingerprint(self, order: Order) -> bytes:
        """A keyed hash of all of an order; a plain one of a 6-digit code could be guessed."""
        parameters = [part for pair in sorted(order.parameters.items()) for part in pair]
        return keyed_hash(self._orders, order.channel, order.to, order.template, order.language, *parameters)


def _place(delivery_id: UUID) -> str:
    return f"deliveries.sealed:{delivery_id}"
