"""The stack's true keys, so that tests can sign what is wrong in one thing only."""

from __future__ import annotations

import base64
import time
from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from services.identity.keyring import KeyRing
from services.mesh.clock import system_clock
from services.mesh.database import Database
from services.mesh.idempotency import Idempotency
from services.mesh.vault import Vault
from services.messaging.live import frames
from services.messaging.live.resume import Tokens
from tests.support.stack import Stack


async def signing_key(stack: Stack) -> tuple[Ed25519PrivateKey, str]:
    """The key that identity signs with now, and its id."""
    addresses = stack.addresses
    database = Database(addresses.database("identity"), pool=1, timeout=5, name="tests")
    try:
        vault = Vault(base64.b64decode(addresses.secrets.master_keys["identity"]))
        life = timedelta(seconds=900)
        idempotency = Idempotency(vault.derive("idempotency"))
        ring = KeyRing(database, vault, idempotency, system_clock, notice=timedelta(), token_life=life)
        await ring.load()
    finally:
        await database.close()
    return ring.newest.private, ring.newest.kid


def resume_token(stack: Stack, user_id: UUID, cursors: Mapping[UUID, int]) -> str:
    """A resume token of somebody who has seen dialogs up to these events, as messaging would make it now."""
    vault = Vault(base64.b64decode(stack.addresses.secrets.master_keys["messaging"]))
    entries = [frames.entry(dialog_id, seq) for dialog_id, seq in cursors.items()]
    now = time.time()
    tokens = Tokens(vault.derive("resume"), days=1)
    return tokens.make(user_id.bytes, int(now * 1000), int(now) - 600, entries).decode()
