"""What an operator does about people and keys."""

from __future__ import annotations

import asyncpg
import jwt

from sampan.payment.v1 import payment_service_pb2 as pb
from sampan.payment.v1.hold_pb2 import Hold
from sampan.payment.v1.top_up_pb2 import CreateTopUpRequest, TopUp
from sampan.payment.v1.transaction_pb2 import Transaction
from tests.support.clients import Clients
from tests.support.money import balance, fund, lies
from tests.support.stack import Stack
from tests.support.waiting import until


async def test_a_role_ends_sessions_and_the_next_sign_in_has_it(stack: Stack, clients: Clients) -> None:
    person = await clients.register()
    done = stack.command("admin", "grant", person.username)
    assert done.returncode == 0, done.stderr
    assert f"{person.id} has admin" in done.stdout

    async def code() -> int:
        return (await clients.rest.call("GET", "/v1/me", token=person.token)).code

    await until(code, 401, within=1.0)
    body = {"username": person.username, "password": person.password}
    token = (await clients.rest.call("POST", "/v1/auth/login", body)).body["access_token"]
    assert jwt.decode(token, options={"verify_signature": False})["roles"] == ["admin"]
    assert (await clients.rest.call("GET", "/v1/me", token=token)).body["roles"] == ["admin"]
    taken = stack.command("admin", "grant", person.id, "--revoke")
    assert "has no role" in taken.stdout


async def test_a_tier_is_set_and_counts_for_what_may_be_sent(stack: Stack, clients: Clients) -> None:
    person = await clients.register()
    made = await clients.rest.call("POST", "/v1/wallets", {"currency": "THB"}, token=person.token)
    assert made.body["limits"]["daily"] == "500000"
    done = stack.command("admin", "tier", person.username, "2")
    assert done.returncode == 0, done.stderr
    assert f"{person.id} is active, KYC tier 2" in done.stdout
    seen = await clients.rest.call("GET", f"/v1/wallets/{made.body['id']}", token=person.token)
    assert (seen.body["limits"]["kyc_tier"], seen.body["limits"]["daily"]) == (2, "20000000")
    assert (await clients.rest.call("GET", "/v1/me", token=person.token)).body["kyc_tier"] == 2
    assert stack.command("admin", "tier", person.username, "4").returncode != 0


async def test_who_is_suspended_pays_nothing_through_any_door_until_restored(
    stack: Stack, clients: Clients
) -> None:
    person, other = await clients.register(), await clients.register()
    wallets = []
    for one in (person, other):
        made = await clients.rest.call("POST", "/v1/wallets", {"currency": "THB"}, token=one.token)
        wallets.append(made.body["id"])
    owner = await asyncpg.connect(stack.addresses.database("payment", owner=True))
    await fund(owner, wallets[0], 1_000)
    done = stack.command("admin", "suspend", person.username)
    assert f"{person.id} is suspended" in done.stdout, done.stderr
    paid = {"wallet_id": wallets[0], "recipient_id": other.id, "amount": 5, "currency": "THB"}
    wanted = {"wallet_id": wallets[0], "amount": 5, "currency": "THB", "method": "promptpay"}
    for path, method, request, answer in (
        ("/v1/transactions/send", "SendMoney", pb.SendMoneyRequest(**paid), Transaction),
        ("/v1/holds", "CreateHold", pb.CreateHoldRequest(**paid), Hold),
        ("/v1/transactions/topup", "CreateTopUp", CreateTopUpRequest(**wanted), TopUp),
    ):
        body = wanted if method == "CreateTopUp" else paid
        reply = await clients.rest.call("POST", path, body, token=person.token)
        assert (reply.code, reply.reason) == (403, "ACCOUNT_SUSPENDED")
        for door in (clients.grpc, clients.grpc_web):
            full = f"/sampan.payment.v1.PaymentService/{method}"
            told = await door.call(full, request.SerializeToString(), answer, token=person.token)
            assert (door.name, told.reason) == (door.name, "ACCOUNT_SUSPENDED")
    login = {"username": person.username, "password": person.password}
    refused = await clients.rest.call("POST", "/v1/auth/login", login)
    assert (refused.code, refused.reason) == (403, "ACCOUNT_SUSPENDED")
    back = {**paid, "wallet_id": wallets[1], "recipient_id": person.id}
    unseen = await clients.rest.call("POST", "/v1/transactions/send", back, token=other.token)
    assert (unseen.code, unseen.reason) == (404, "RECIPIENT_NOT_FOUND")
    assert await balance(owner, wallets[0]) == 1_000
    assert await lies(owner) == []
    assert f"{person.id} is active" in stack.command("admin", "restore", person.id).stdout
    sent = await clients.rest.call("POST", "/v1/transactions/send", paid, token=person.token)
    assert (sent.code, await balance(owner, wallets[0])) == (201, 995)
    await owner.close()


async def test_sessions_end_with_a_suspension_when_that_is_wished(stack: Stack, clients: Clients) -> None:
    person = await clients.register()
    assert stack.command("admin", "suspend", person.username, "--end-sessions").returncode == 0

    async def code() -> int:
        return (await clients.rest.call("GET", "/v1/wallets", token=person.token)).code

    await until(code, 401, within=1.0)


async def test_granting_to_nobody_says_so(stack: Stack) -> None:
    done = stack.command("admin", "grant", "nobody.at.all")
    assert done.returncode != 0
    assert "no such person" in done.stderr
    assert "no such person" in stack.command("admin", "suspend", "nobody.at.all").stderr


async def test_a_new_key_is_published_before_it_signs(stack: Stack, clients: Clients) -> None:
    async def published() -> list[str]:
        keys = (await clients.rest.call("GET", "/.well-known/jwks.json")).body["keys"]
        return [key["kid"] for key in keys]

    before = await published()
    done = stack.command("identity", "rotate-keys")
    assert done.returncode == 0, done.stderr
    kid = done.stdout.split()[0]
    assert await published() == [kid, *before]
    person = await clients.register()
    assert jwt.get_unverified_header(person.token)["kid"] in before
    assert (await clients.rest.call("GET", "/v1/me", token=person.token)).code == 200
