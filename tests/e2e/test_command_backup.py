"""Backup, wipe, restore: what was acknowledged is there, in a home that knew nothing of it."""

from __future__ import annotations

import tarfile
import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncpg

from tests.support.clients import Clients, Person
from tests.support.money import fund
from tests.support.stack import Stack, free_port, start


@dataclass
class Paid:
    """What somebody paid and wrote to somebody else."""

    payer: Person
    order: dict[str, Any]
    answer: dict[str, Any]
    wallet: str
    dialog: str


async def paid(stack: Stack, clients: Clients, payer: Person, payee: Person) -> Paid:
    """A payment of 250 out of 1000, and a word with it."""
    for person in (payee, payer):
        made = await clients.rest.call("POST", "/v1/wallets", {"currency": "THB"}, token=person.token)
        assert made.code == 201, made
    owner = await asyncpg.connect(stack.addresses.database("payment", owner=True))
    await fund(owner, made.body["id"], 1000)
    await owner.close()
    order = {
        "wallet_id": made.body["id"],
        "recipient_id": payee.id,
        "amount": "250",
        "currency": "THB",
        "request_id": str(uuid.uuid4()),
    }
    answer = await clients.rest.call("POST", "/v1/transactions/send", order, token=payer.token)
    assert answer.code == 201, answer
    dialog = await clients.rest.call("POST", "/v1/dialogs", {"participants": [payee.id]}, token=payer.token)
    said = {"content": {"text": "for the batik"}}
    path = f"/v1/dialogs/{dialog.body['id']}/messages"
    assert (await clients.rest.call("POST", path, said, token=payer.token)).code == 201
    return Paid(payer, order, answer.body, made.body["id"], dialog.body["id"])


async def still_paid(stack: Stack, clients: Clients, before: Paid) -> None:
    """The books hold, the payment stands and is not made again, what was said can be read."""
    token = before.payer.token
    reconciled = stack.command("payment", "reconcile")
    assert reconciled.returncode == 0, reconciled.stdout
    again = await clients.rest.call("POST", "/v1/transactions/send", before.order, token=token)
    assert again.body == before.answer
    wallet = await clients.rest.call("GET", f"/v1/wallets/{before.wallet}", token=token)
    assert wallet.body["balance"] == "750"
    other = before.order | {"request_id": str(uuid.uuid4())}
    assert (await clients.rest.call("POST", "/v1/transactions/send", other, token=token)).code == 201
    messages = await clients.rest.call("GET", f"/v1/dialogs/{before.dialog}/messages", token=token)
    assert "for the batik" in [one["content"].get("text") for one in messages.body["messages"]]


async def test_what_was_acknowledged_survives_a_wipe(private_home: Path, tmp_path: Path) -> None:
    stack = start(private_home, measured=False).commanded
    async with Clients.of(stack) as clients:
        people = [await clients.register(email=f"p{number}@example.com") for number in range(5)]
        body = {"display_name": "Kept", "bank_account_number": "12345678"}
        made = await clients.rest.call("POST", "/v1/profile", body, token=people[0].token)
        assert made.code == 201
        before = await paid(stack, clients, people[0], people[1])
    archive = tmp_path / "backup.tar"
    done = stack.command("backup", str(archive))
    assert done.returncode == 0, done.stderr
    assert archive.stat().st_mode & 0o077 == 0
    assert stack.command("backup", str(archive)).returncode == 1
    assert "in use" in stack.command("restore", str(archive), "--yes").stderr
    assert stack.command("reset", "--yes").returncode == 0

    other = Stack(private_home.with_name(private_home.name + "-other"), free_port())
    try:
        restored = other.command("restore", str(archive))
        assert restored.returncode == 0, restored.stderr
        assert other.command("up", "--detach").returncode == 0
        async with Clients.of(other) as clients:
            for number, person in enumerate(people):
                login = {"username": person.username, "password": person.password}
                answer = await clients.rest.call("POST", "/v1/auth/login", login)
                assert answer.code == 200
                assert answer.body["user"]["email"] == f"p{number}@example.com"
                assert answer.body["id"] == person.id
            # A session of before goes on, and what only a key can read is read.
            profile = await clients.rest.call("GET", "/v1/profile", token=people[0].token)
            assert profile.body["bank_account_number"] == "12345678"
            await still_paid(other, clients, before)
            refreshed = {"refresh_token": people[1].refresh_token}
            assert (await clients.rest.call("POST", "/v1/auth/token/refresh", refreshed)).code == 200
            # And the running role still may not do more than migrations gave it.
            assert (await clients.register()).id
        assert other.command("migrate", "status").returncode == 0
    finally:
        other.command("down")


def test_an_outside_server_is_kept_and_restored_too(private_home: Path, tmp_path: Path) -> None:
    server = Stack(private_home, free_port())
    assert server.command("infra", "up", "--detach").returncode == 0
    outside = {"SAMPAN_POSTGRES_URL": server.addresses.superuser()}
    other = Stack(private_home.with_name(private_home.name + "-other"), free_port(), outside)
    archive = tmp_path / "backup.tar"
    assert server.command("backup", str(archive)).returncode == 0
    # The other home has passwords of its own, which the roles then get.
    restored = other.command("restore", str(archive), "--yes")
    assert restored.returncode == 0, restored.stderr
    assert other.command("migrate", "status").returncode == 0
    again = other.command("backup", str(archive), "--force")
    assert again.returncode == 0, again.stderr
    assert not (other.home / "postgres" / "data").exists()


def test_what_is_no_backup_is_refused(private_home: Path, tmp_path: Path) -> None:
    nowhere = Stack(private_home, free_port())
    wrong = tmp_path / "wrong.tar"
    wrong.write_text("nothing")
    assert "is not a backup" in nowhere.command("restore", str(wrong)).stderr
    with tarfile.open(wrong, "w"):
        pass
    assert "is not a backup" in nowhere.command("restore", str(wrong)).stderr
    assert not private_home.exists()
    assert "there is nothing" in nowhere.command("backup", str(tmp_path / "b.tar")).stderr
