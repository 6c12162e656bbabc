"""Calls between services: deadlines, names, retries and replicas as the contract says; no text leaks."""

from __future__ import annotations

import json
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import grpc
import pytest

from sampan.identity.v1 import identity_internal_service_pb2 as identity_pb
from sampan.identity.v1.identity_internal_service_pb2_grpc import IdentityInternalServiceStub
from sampan.notification.v1 import notification_internal_service_pb2 as notification_pb
from sampan.notification.v1.notification_internal_service_pb2_grpc import NotificationInternalServiceStub
from sampan.probe.v1 import probe_service_pb2 as probe
from sampan.probe.v1.probe_service_pb2_grpc import ProbeServiceStub
from services.mesh.app import App
from services.mesh.channels import acting_for, service_config
from services.mesh.errors import DeadlineExceeded, Internal, NotFound, RateLimited, SampanError, Unavailable
from services.mesh.policy import all_methods, method_at
from services.mesh.settings import MeshSettings, ServiceSettings
from services.stack.pki import Pki
from services.stack.serve import Running
from tests.support.errors import reason_of
from tests.support.mesh import PROBE, Minter, channel_as, probe_app, serving, settings_of
from tests.support.replicas import (
    IDENTITY,
    NOTIFICATION,
    Hop,
    Load,
    Recorder,
    Replica,
    peer_as,
    playing,
    served,
    until_served,
)
from tests.support.waiting import until
from tests.support.wire import wire_to

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


ROTATE = identity_pb.RotateKeysRequest()
HELLO = probe.EchoRequest(text="x")


def deliver() -> notification_pb.DeliverRequest:
    return notification_pb.DeliverRequest(channel="sms", to="+66812345678", template="no_account")


def test_the_service_config_says_what_the_contract_says() -> None:
    (once,) = json.loads(service_config([method_at(f"/{PROBE}/EchoOnce")]))["methodConfig"]
    assert "retryPolicy" not in once
    config = json.loads(service_config(all_methods([IDENTITY, NOTIFICATION])))
    assert config["loadBalancingConfig"] == [{"round_robin": {}}]
    assert config["healthCheckConfig"] == {"serviceName": ""}
    by_name = {one["name"][0]["method"]: one for one in config["methodConfig"]}
    assert by_name["Deliver"]["timeout"] == "5.000s"
    assert {name for name, one in by_name.items() if "retryPolicy" in one} == {
        "Deliver",
        "ListDeliveries",
        "ReplayDead",
        "WatchRevocations",
        "ListRevocations",
        "SetRole",
        "SetKycTier",
        "SetStatus",
        "RotateKeys",
        "GetContact",
        "ListAccounts",
    }
    assert by_name["Deliver"]["retryPolicy"]["retryableStatusCodes"] == ["UNAVAILABLE"]


# Two hops: a client, `web` in the middle, the probe at the end.


@pytest.fixture
async def hops(pki: Pki) -> AsyncIterator[tuple[Recorder, grpc.aio.Channel, Minter]]:
    minter, recorder = Minter(), Recorder()
    end = probe_app(pki, minter)
    async with AsyncExitStack() as stack:
        end = App("probe", end.settings, {PROBE: recorder}, minter)
        address = await stack.enter_async_context(serving(end))
        peer = await stack.enter_async_context(peer_as("web", "probe", pki, address))
        middle = App("web", ServiceSettings(**settings_of("web", pki)), {PROBE: Hop(peer)}, minter)
        entry = await stack.enter_async_context(serving(middle))
        channel = await stack.enter_async_context(channel_as("edge", entry, "web", pki))
        yield recorder, channel, minter


def headers(token: str) -> tuple[tuple[str, str], ...]:
    return (
        ("authorization", f"Bearer {token}"),
        ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01"),
        ("x-sampan-subject", "somebody else"),
    )


async def connected(recorder: Recorder, channel: grpc.aio.Channel, minter: Minter) -> None:
    """Has the connections of both hops made, which takes its time, too."""
    await ProbeServiceStub(channel).Echo(HELLO, metadata=headers(minter.token()))
    recorder.calls.clear()


async def test_what_is_left_of_a_deadline_goes_along(
    hops: tuple[Recorder, grpc.aio.Channel, Minter],
) -> None:
    recorder, channel, minter = hops
    await connected(*hops)
    slow = probe.EchoRequest(text="x")
    slow.delay.FromSeconds(30)
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await ProbeServiceStub(channel).Echo(slow, timeout=2, metadata=headers(minter.token()))
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    async def ended() -> int:
        return recorder.cut_short

    await until(ended, 1, within=20)
    (seen,) = recorder.calls
    # On each hop it is rounded up a little; without it, it would be the contract's 5 s.
    assert 0 < seen.ends - seen.started < 3


async def test_without_a_deadline_of_the_caller_the_contract_s_counts(
    hops: tuple[Recorder, grpc.aio.Channel, Minter],
) -> None:
    recorder, channel, minter = hops
    await connected(*hops)
    await ProbeServiceStub(channel).Echo(probe.EchoRequest(text="x"), metadata=headers(minter.token()))
    (seen,) = recorder.calls
    assert 2 < seen.ends - seen.started <= 5


async def test_a_method_for_persons_gets_the_token_and_one_for_services_the_subject(
    hops: tuple[Recorder, grpc.aio.Channel, Minter],
) -> None:
    recorder, channel, minter = hops
    stub = ProbeServiceStub(channel)
    metadata = headers(minter.token("ann", roles=["admin"]))
    answer = await stub.EchoAdmin(probe.EchoRequest(text="x"), metadata=metadata)
    assert answer.caller == "ann"
    answer = await stub.Echo(probe.EchoRequest(text="x"), metadata=metadata)
    assert answer.caller == "web"
    to_person, to_service = recorder.calls
    assert to_person.subject == ""
    assert to_service.subject == "ann"
    assert to_service.text("authorization") == ""
    assert [call.trace_id for call in recorder.calls] == [TRACE, TRACE]
    assert to_service.text("traceparent").endswith("-01")


async def test_streams_are_handed_on_with_all_that(hops: tuple[Recorder, grpc.aio.Channel, Minter]) -> None:
    recorder, channel, minter = hops
    stream = ProbeServiceStub(channel).EchoDown(
        probe.EchoRequest(text="x", times=3), metadata=headers(minter.token("ann"))
    )
    assert [one.caller async for one in stream] == ["ann"] * 3
    assert recorder.calls[0].trace_id == TRACE
    refused = ProbeServiceStub(channel).EchoDown(
        probe.EchoRequest(text="x", times=1, fail="NotFound"), metadata=headers(minter.token("ann"))
    )
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await refused.read()
    assert reason_of(raised.value) == "NOT_FOUND"


@pytest.mark.parametrize(
    ("fail", "expected", "shown"),
    [
        ("NotFound", NotFound, "NOT_FOUND"),
        ("RateLimited", RateLimited, "RATE_LIMITED"),
        ("TokenExpired", SampanError, "TOKEN_EXPIRED"),
        ("Unavailable", Unavailable, "UNAVAILABLE"),
        ("CallerNotAllowed", Internal, "INTERNAL"),
        ("secret inner text", Internal, "INTERNAL"),
    ],
)
async def test_a_refusal_keeps_its_reason_and_not_its_text(
    pki: Pki, fail: str, expected: type[SampanError], shown: str
) -> None:
    async with served("probe", PROBE, Recorder(), pki, "web") as peer:
        with pytest.raises(expected) as raised:
            await ProbeServiceStub(peer.channel).EchoService(probe.EchoRequest(text="x", fail=fail))
    assert raised.value.reason == shown
    assert "secret" not in str(raised.value)


async def test_a_caller_who_is_not_named_is_our_own_fault(pki: Pki) -> None:
    async with served("probe", PROBE, Recorder(), pki, "notification") as peer:
        with pytest.raises(Internal):
            await ProbeServiceStub(peer.channel).EchoService(probe.EchoRequest(text="x"))


# Who is named.


async def test_a_service_by_itself_names_its_subject(pki: Pki) -> None:
    replica = Replica()
    async with served("notification", NOTIFICATION, replica, pki, "identity") as peer:
        stub = NotificationInternalServiceStub(peer.channel)
        with acting_for("ben"):
            await stub.Deliver(deliver())
        await stub.Deliver(deliver())
    assert replica.subjects == ["ben", ""]


async def test_two_stubs_of_one_contract_share_a_peer(pki: Pki) -> None:
    replica = Replica()
    async with served("notification", NOTIFICATION, replica, pki, "identity") as peer:
        for stub in [NotificationInternalServiceStub(peer.channel) for _ in range(2)]:
            await stub.Deliver(deliver())
    assert replica.served == 2


async def test_a_subject_is_believed_of_services_only(pki: Pki) -> None:
    replica = Replica()
    async with AsyncExitStack() as stack:
        address = await stack.enter_async_context(serving(playing("identity", IDENTITY, replica, pki)))
        channel = await stack.enter_async_context(channel_as("operator", address, "identity", pki))
        subject = (("x-sampan-subject", "ben"),)
        await IdentityInternalServiceStub(channel).RotateKeys(ROTATE, metadata=subject)
    assert replica.subjects == [""]


# Retries.


async def test_a_mutation_is_tried_again_under_one_request_id(pki: Pki) -> None:
    replica = Replica()
    async with served("notification", NOTIFICATION, replica, pki, "identity") as peer:
        stub = NotificationInternalServiceStub(peer.channel)
        request = deliver()
        replica.failures_left = 2
        await stub.Deliver(request)
        await stub.Deliver(request)
        chosen = deliver()
        chosen.request_id = str(uuid.uuid4())
        await stub.Deliver(chosen)
    first, again, third, second_call, own = replica.request_ids
    assert first == again == third != second_call
    assert uuid.UUID(second_call).version == 7
    assert own == chosen.request_id
    assert request.request_id == ""


async def test_what_may_not_be_tried_again_is_tried_once(pki: Pki) -> None:
    replica = Replica()
    replica.failures_left = 1
    async with served("probe", PROBE, replica, pki, "web") as peer:
        with pytest.raises(Unavailable):
            await ProbeServiceStub(peer.channel).EchoOnce(HELLO)
    assert replica.served == 1


async def test_tries_end_after_four(pki: Pki) -> None:
    replica = Replica()
    replica.failures_left = 100
    async with served("notification", NOTIFICATION, replica, pki, "identity") as peer:
        with pytest.raises(Unavailable):
            await NotificationInternalServiceStub(peer.channel).Deliver(deliver())
    assert replica.served == 4


# Failing fast.


async def test_a_service_that_keeps_failing_is_left_alone_for_a_while(pki: Pki) -> None:
    now = [0.0]
    replica = Replica()
    replica.failures_left = 20
    async with served("probe", PROBE, replica, pki, "web", clock=lambda: now[0]) as peer:
        stub = ProbeServiceStub(peer.channel)
        for _ in range(20):
            with pytest.raises(Unavailable):
                await stub.EchoOnce(HELLO)
        with pytest.raises(Unavailable):
            await stub.EchoOnce(HELLO)
        assert replica.served == 20
        now[0] += 1.1
        await stub.EchoOnce(HELLO)
        await stub.EchoOnce(HELLO)
    assert replica.served == 22


async def test_nobody_there_is_unavailable(pki: Pki) -> None:
    async with peer_as("web", "probe", pki) as peer:
        with pytest.raises(Unavailable):
            await ProbeServiceStub(peer.channel).EchoService(probe.EchoRequest(text="x"))
    async with wire_to("127.0.0.1:1") as wire, peer_as("web", "probe", pki, wire.address) as peer:
        wire.cut()
        with pytest.raises((Unavailable, DeadlineExceeded)):
            await ProbeServiceStub(peer.channel).EchoService(probe.EchoRequest(text="x"), timeout=2)


# Replicas.


async def test_a_killed_replica_fails_no_call_that_may_be_tried_again(pki: Pki) -> None:
    first, second = Replica(), Replica()
    async with AsyncExitStack() as stack:
        addresses = [
            await stack.enter_async_context(serving(playing("notification", NOTIFICATION, one, pki)))
            for one in (first, second)
        ]
        wire = await stack.enter_async_context(wire_to(addresses[0]))
        peer = await stack.enter_async_context(
            peer_as("identity", "notification", pki, wire.address, addresses[1])
        )
        stub = NotificationInternalServiceStub(peer.channel)
        load = Load(lambda: stub.Deliver(deliver()))
        await until_served(first)
        await until_served(second)
        wire.cut()
        await until_served(second, 500)
        await load.end()
    assert not load.failed, load.failed[:3]
    assert load.done > 500


async def test_replicas_stopped_one_after_another_fail_no_call_not_even_one_without_retries(
    pki: Pki,
) -> None:
    replicas = [Replica(), Replica()]
    apps = [playing("probe", PROBE, one, pki) for one in replicas]
    running = [Running(app, MeshSettings()) for app in apps]
    for one in running:
        await one.start()
    addresses = [one.server.address for one in running]
    async with peer_as("web", "probe", pki, *addresses) as peer:
        stub = ProbeServiceStub(peer.channel)
        load = Load(lambda: stub.EchoOnce(HELLO))
        for number in (0, 1):
            await until_served(replicas[number])
            await running[number].stop(notice=0.3, grace=5)
            await until_served(replicas[1 - number])
            again = playing("probe", PROBE, replicas[number], pki, listen=addresses[number])
            running[number] = Running(again, MeshSettings())
            await running[number].start()
            await until_served(replicas[number])
        await load.end()
    for one in running:
        await one.stop(notice=0, grace=0)
    assert not load.failed, load.failed[:3]
