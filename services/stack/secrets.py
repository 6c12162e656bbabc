"""Secrets of one home: generated once, kept in one file that only its owner can read."""

from __future__ import annotations

import base64
import json
import os
import secrets as random
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

from services.stack.files import write_private
from services.stack.home import Home
from services.stack.pki import OPERATOR

FILE = "secrets.json"
# The bank that the stack plays itself.
SANDBOX = "sandbox"


@dataclass(slots=True)
class Secrets:
    """Passwords by the name of their role or user; master keys by service, as base64."""

    postgres_superuser: str = ""
    postgres_roles: dict[str, str] = field(default_factory=dict)
    nats_users: dict[str, str] = field(default_factory=dict)
    redis_users: dict[str, str] = field(default_factory=dict)
    master_keys: dict[str, str] = field(default_factory=dict)
    # What providers of money sign their callbacks with, in hexadecimal.
    provider_keys: dict[str, str] = field(default_factory=dict)
    # Of the people that `sampan seed` makes.
    demo_password: str = ""

    @classmethod
    def from_json(cls, text: str) -> Secrets:
        raw = json.loads(text)
        # Homes from before other services had one. A fresh key there would make all accounts unreadable.
        old = raw.pop("identity_master_key", "")
        known = cls(**raw)
        if old:
            known.master_keys.setdefault("identity", old)
        return known


def new_password() -> str:
    """192 bits that need no quoting in URLs, SQL or configuration files."""
    return random.token_hex(24)


def new_master_key() -> str:
    return base64.b64encode(os.urandom(32)).decode()


def load_or_make(home: Home, services: Iterable[str]) -> Secrets:
    """Reads the home's secrets, generating those that are missing (all at first; later a new service's)."""
    path = home / FILE
    before = path.read_text() if path.exists() else ""
    known = Secrets.from_json(before) if before else Secrets()
    complete(known, services)
    text = json.dumps(asdict(known), indent=1) + "\n"
    if text != before:
        write_private(path, text, durable=True)
    return known


def complete(secrets: Secrets, services: Iterable[str]) -> None:
    """Fills what is missing and leaves alone what is there."""
    secrets.postgres_superuser = secrets.postgres_superuser or new_password()
    secrets.demo_password = secrets.demo_password or random.token_urlsafe(12)
    for service in services:
        for role in (service, f"{service}_owner"):
            secrets.postgres_roles.setdefault(role, new_password())
        secrets.nats_users.setdefault(service, new_password())
        secrets.redis_users.setdefault(service, new_password())
        secrets.master_keys.setdefault(service, new_master_key())
    secrets.provider_keys.setdefault(SANDBOX, os.urandom(32).hex())
    secrets.nats_users.setdefault(OPERATOR, new_password())
