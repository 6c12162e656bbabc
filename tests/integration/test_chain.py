"""The chain refuses what it should, for every arity, with one reason each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography.hazmat.primitives import serialization as form
from google.rpc import error_details_pb2, status_pb2

from sampan.probe.v1 import probe_service_pb2 as probe
from services.mesh.call import Call, arrived
from services.mesh.settings import MeshSettings
from services.stack.pki import LEAF_LIFE, Authority, Pki
from tests.support.mesh import PROBE, Minter, ProbeServicer, channel_as, make_pki, probe_app, serving
from tests.support.waiting import until


class Client:
    """Calls the probe with ready-made bytes."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self.channel = channel

    async def unary(self, method: str, raw: bytes, token: str | None = None, **more: Any) -> bytes:
        metadata = [*more.pop("metadata", ())]
        if token is not None:
            metadata.append(("authorization", f"Bearer {token}"))
        call = self.channel.unary_unary(f"/{PROBE}/{method}")(raw, metadata=metadata, timeout=10, **more)
        answer: bytes = await call
        return answer


def shown(error: grpc.aio.AioRpcError) -> tuple[grpc.StatusCode, str, status_pb2.Status]:
    """Code, reason and details of an error."""
    status = status_pb2.Status.FromString(dict(error.trailing_metadata())["grpc-status-details-bin"])
    info = error_details_pb2.ErrorInfo()
    status.details[0].Unpack(info)
    return error.code(), info.reason, status


async def refused(answer: Any) -> tuple[grpc.StatusCode, str, status_pb2.Status]:
    """What an awaitable that must fail says."""
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await answer
    return shown(raised.value)


HELLO = probe.EchoRequest(text="hello").SerializeToString()


@pytest.fixture(scope="module")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
def minter() -> Minter:
    return Minter()


@pytest.fixture(scope="module")
async def address(pki: Pki, minter: Minter) -> AsyncIterator[str]:
    async with serving(probe_app(pki, minter, max_request_bytes=8192), MeshSettings(log_sample=1)) as address:
        yield address


@pytest.fixture
async def client(pki: Pki, address: str) -> AsyncIterator[Client]:
    async with channel_as("edge", address, "probe", pki) as channel:
        yield Client(channel)


async def test_a_good_call_of_each_arity_is_answered(client: Client, minter: Minter) -> None:
    token = minter.token("ann")
    metadata = [("authorization", f"Bearer {token}")]
    assert probe.EchoResponse.FromString(await client.unary("Echo", HELLO, token)).caller == "ann"

    down = client.channel.unary_stream(f"/{PROBE}/EchoDown")
    request = probe.EchoRequest(text="x", times=3).SerializeToString()
    assert len([one async for one in down(request, metadata=metadata)]) == 3

    up = client.channel.stream_unary(f"/{PROBE}/EchoUp")
    assert probe.EchoResponse.FromString(await up(iter([HELLO, HELLO]), metadata=metadata)).text == "hello"

    both = client.channel.stream_stream(f"/{PROBE}/EchoBoth")
    assert len([one async for one in both(iter([HELLO, HELLO]), metadata=metadata)]) == 2


class Encoding(ProbeServicer):
    """Gives answers that are encoded already, and notes when a stream of them is over."""

    def __init__(self) -> None:
        self.over = 0

    async def EchoDown(  # type: ignore[override]  # noqa: N802
        self, request: probe.EchoRequest, call: Call
    ) -> AsyncIterator[bytes]:
        try:
            while True:
                yield (await self.Echo(request, call)).SerializeToString()
        finally:
            self.over += 1


async def test_a_stream_may_give_bytes_and_is_closed_when_its_client_goes(pki: Pki, minter: Minter) -> None:
    servicer = Encoding()
    app = replace(probe_app(pki, minter), servicers={PROBE: servicer})
    metadata = [("authorization", f"Bearer {minter.token('ann')}")]
    async with serving(app) as address, channel_as("edge", address, "probe", pki) as channel:
        call = channel.unary_stream(f"/{PROBE}/EchoDown")(HELLO, metadata=metadata)
        assert probe.EchoResponse.FromString(await call.read()).caller == "ann"
        call.cancel()

        async def over() -> int:
            return servicer.over

        await until(over, 1, within=20)


class Spying(ProbeServicer):
    """Asks in a task of its own for the metadata of the call that it serves."""

    async def Echo(self, request: probe.EchoRequest, call: Call) -> probe.EchoResponse:  # noqa: N802
        async def inherited() -> object:
            return arrived.get()

        assert await asyncio.create_task(inherited()) is None
        return await super().Echo(request, call)


async def test_the_metadata_of_a_call_is_for_nobody_that_it_starts(pki: Pki, minter: Minter) -> None:
    app = replace(probe_app(pki, minter), servicers={PROBE: Spying()})
    async with serving(app) as address, channel_as("edge", address, "probe", pki) as channel:
        for name in ("ann", "ben"):
            answer = await Client(channel).unary("Echo", HELLO, minter.token(name))
            assert probe.EchoResponse.FromString(answer).caller == name


async def test_a_token_is_needed_for_each_arity(client: Client) -> None:
    code, reason, _ = await refused(client.unary("Echo", HELLO))
    assert (code, reason) == (grpc.StatusCode.UNAUTHENTICATED, "TOKEN_MISSING")
    assert (await refused(client.channel.unary_stream(f"/{PROBE}/EchoDown")(HELLO).read()))[
        1
    ] == "TOKEN_MISSING"
    assert (await refused(client.channel.stream_unary(f"/{PROBE}/EchoUp")(iter([HELLO]))))[
        1
    ] == "TOKEN_MISSING"
    both = client.channel.stream_stream(f"/{PROBE}/EchoBoth")(iter([HELLO]))
    assert (await refused(both.read()))[1] == "TOKEN_MISSING"


async def test_undecodable_and_invalid_messages_in_a_stream_are_refused(
    client: Client, minter: Minter
) -> None:
    metadata = [("authorization", f"Bearer {minter.token()}")]
    both = client.channel.stream_stream(f"/{PROBE}/EchoBoth")(iter([b"\xff\xff"]), metadata=metadata)
    assert (await refused(both.read()))[1] == "MALFORMED_REQUEST"
    up = client.channel.stream_unary(f"/{PROBE}/EchoUp")(iter([b""]), metadata=metadata)
    assert (await refused(up))[1] == "INVALID_ARGUMENT"


async def test_bytes_that_are_no_message_are_malformed(client: Client, minter: Minter) -> None:
    for raw in (b"\xff\xff\xff", b"\x0a\x02\xff\xfe", b"\x0a\x7f"):
        code, reason, _ = await refused(client.unary("Echo", raw, minter.token()))
        assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "MALFORMED_REQUEST")


async def test_each_broken_rule_is_named_with_its_field(client: Client, minter: Minter) -> None:
    request = probe.EchoRequest(text="", times=1001).SerializeToString()
    code, reason, status = await refused(client.unary("Echo", request, minter.token()))
    assert (code, reason) == (grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT")
    bad = error_details_pb2.BadRequest()
    status.details[1].Unpack(bad)
    assert {(one.field, one.reason) for one in bad.field_violations} == {
        ("text", "string.min_len"),
        ("times", "int32.gte_lte"),
    }


async def test_a_request_one_byte_over_the_limit_is_refused(client: Client, minter: Minter) -> None:
    def sized(total: int) -> bytes:
        # An unknown field of bytes fills the message up without breaking a rule.
        return HELLO + b"\xfa\x01" + _varint(total - len(HELLO) - 4) + b"x" * (total - len(HELLO) - 4)

    assert len(sized(8192)) == 8192
    await client.unary("Echo", sized(8192), minter.token())
    code, reason, _ = await refused(client.unary("Echo", sized(8193), minter.token()))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "REQUEST_TOO_LARGE")


def _varint(number: int) -> bytes:
    return bytes((number & 0x7F | 0x80, number >> 7))


async def test_a_method_without_a_policy_is_refused(client: Client, minter: Minter) -> None:
    code, reason, _ = await refused(client.unary("EchoWithoutPolicy", HELLO, minter.token(roles=["admin"])))
    assert (code, reason) == (grpc.StatusCode.PERMISSION_DENIED, "POLICY_MISSING")


async def test_an_unknown_method_is_refused(client: Client, minter: Minter) -> None:
    code, reason, _ = await refused(client.unary("Nothing", HELLO, minter.token()))
    assert (code, reason) == (grpc.StatusCode.UNIMPLEMENTED, "ROUTE_NOT_FOUND")


async def test_an_admin_method_needs_the_role(client: Client, minter: Minter) -> None:
    assert (await refused(client.unary("EchoAdmin", HELLO, minter.token())))[1] == "PERMISSION_DENIED"
    await client.unary("EchoAdmin", HELLO, minter.token(roles=["admin"]))


async def test_an_internal_method_is_for_the_callers_it_names(
    client: Client, minter: Minter, pki: Pki, address: str
) -> None:
    admin = minter.token(roles=["admin"])
    assert (await refused(client.unary("EchoService", HELLO, admin)))[1] == "CALLER_NOT_ALLOWED"
    async with channel_as("identity", address, "probe", pki) as channel:
        assert (await refused(Client(channel).unary("EchoService", HELLO)))[1] == "CALLER_NOT_ALLOWED"
    async with channel_as("web", address, "probe", pki) as channel:
        answer = probe.EchoResponse.FromString(await Client(channel).unary("EchoService", HELLO))
        assert answer.caller == "web"


async def test_a_caller_without_a_certificate_cannot_connect(minter: Minter, pki: Pki, address: str) -> None:
    credentials = grpc.ssl_channel_credentials(pki.identity("probe").ca.read_bytes())
    options = [("grpc.ssl_target_name_override", "probe.sampan.internal")]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await Client(channel).unary("Echo", HELLO, minter.token())
    assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def cannot_connect(address: str, authority: bytes, key: bytes, certificate: bytes, token: str) -> None:
    """Neither an internal method nor, with a stolen token, a person's can be called with a certificate."""
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    options = [("grpc.ssl_target_name_override", "probe.sampan.internal")]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        for method in ("EchoService", "Echo"):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await Client(channel).unary(method, HELLO, token)
            assert raised.value.code() is grpc.StatusCode.UNAVAILABLE


async def test_a_certificate_of_another_authority_is_refused(
    minter: Minter, pki: Pki, address: str, tmp_path: Path
) -> None:
    stranger = make_pki(tmp_path).identity("web")
    authority = pki.identity("probe").ca.read_bytes()
    key, certificate = stranger.key.read_bytes(), stranger.certificate.read_bytes()
    await cannot_connect(address, authority, key, certificate, minter.token())


async def test_an_expired_certificate_is_refused(minter: Minter, pki: Pki, address: str) -> None:
    def issued(days_ago: int) -> tuple[bytes, bytes]:
        moment = datetime.now(UTC) - timedelta(days=days_ago)
        certificate, key = Authority.load(pki.folder).issue("web", moment)
        pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        return pem, certificate.public_bytes(form.Encoding.PEM)

    authority = pki.identity("probe").ca.read_bytes()
    await cannot_connect(address, authority, *issued(LEAF_LIFE.days + 1), minter.token())
    # The same, but of today, is let in: it was the age.
    credentials = grpc.ssl_channel_credentials(authority, *issued(0))
    options = [("grpc.ssl_target_name_override", "probe.sampan.internal")]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        await Client(channel).unary("EchoService", HELLO)


async def test_too_many_calls_are_refused_with_the_time_to_wait(client: Client) -> None:
    here = [("x-forwarded-for", "192.0.2.1")]
    for _ in range(3):
        await client.unary("EchoPublic", HELLO, metadata=here)
    code, reason, status = await refused(client.unary("EchoPublic", HELLO, metadata=here))
    assert (code, reason) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "RATE_LIMITED")
    retry = error_details_pb2.RetryInfo()
    status.details[-1].Unpack(retry)
    assert 0 < retry.retry_delay.ToTimedelta().total_seconds() <= 1200


async def test_addresses_are_limited_apart_and_only_the_edge_may_say_them(
    client: Client, pki: Pki, address: str
) -> None:
    for claimed in ("192.0.2.7", "192.0.2.8"):
        for _ in range(3):
            # Only what the edge itself appended counts.
            forwarded = [("x-forwarded-for", f"203.0.113.{_}, {claimed}")]
            await client.unary("EchoPublic", HELLO, metadata=forwarded)
        assert (await refused(client.unary("EchoPublic", HELLO, metadata=forwarded)))[1] == "RATE_LIMITED"
    async with channel_as("web", address, "probe", pki) as channel:
        direct = Client(channel)
        for number in range(3):
            await direct.unary("EchoPublic", HELLO, metadata=[("x-forwarded-for", f"203.0.113.{number}")])
        refusal = await refused(
            direct.unary("EchoPublic", HELLO, metadata=[("x-forwarded-for", "198.51.100.9")])
        )
        assert refusal[1] == "RATE_LIMITED"


async def test_the_contract_s_deadline_ends_a_call(client: Client) -> None:
    slow = probe.EchoRequest(text="x")
    slow.delay.FromSeconds(30)
    here = [("x-forwarded-for", "192.0.2.33")]
    code, reason, _ = await refused(client.unary("EchoPublic", slow.SerializeToString(), metadata=here))
    assert (code, reason) == (grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_EXCEEDED")


async def test_a_crash_shows_nothing_of_its_inside(client: Client, minter: Minter) -> None:
    request = probe.EchoRequest(text="x", fail="secret inner text").SerializeToString()
    code, reason, status = await refused(client.unary("Echo", request, minter.token()))
    assert (code, reason) == (grpc.StatusCode.INTERNAL, "INTERNAL")
    assert b"RuntimeError" not in status.SerializeToString()
    assert b"inner" not in status.SerializeToString()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("NotFound", grpc.StatusCode.NOT_FOUND),
        ("AlreadyExists", grpc.StatusCode.ALREADY_EXISTS),
        ("FailedPrecondition", grpc.StatusCode.FAILED_PRECONDITION),
        ("Unavailable", grpc.StatusCode.UNAVAILABLE),
    ],
)
async def test_a_domain_error_has_its_code_from_the_table(
    client: Client, minter: Minter, error: str, code: grpc.StatusCode
) -> None:
    request = probe.EchoRequest(text="x", fail=error).SerializeToString()
    assert (await refused(client.unary("Echo", request, minter.token())))[0] is code


async def test_a_rest_call_is_told_its_problem_and_a_grpc_call_is_not(
    client: Client, minter: Minter, pki: Pki, address: str
) -> None:
    async def trailing(channel: grpc.aio.Channel, path: str) -> dict[str, Any]:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await Client(channel).unary(
                "Echo", b"", minter.token(), metadata=[("x-envoy-original-path", path)]
            )
        return dict(raised.value.trailing_metadata())

    told = await trailing(client.channel, "/v1/echo?token=secret")
    assert told["x-http-code"] == "400"
    assert '"reason":"INVALID_ARGUMENT"' in told["x-problem"]
    assert '"instance":"/v1/echo"' in told["x-problem"]
    assert "secret" not in told["x-problem"]
    async with channel_as("web", address, "probe", pki) as channel:
        assert "x-problem" not in await trailing(channel, "/v1/echo")


async def test_a_trace_id_is_taken_from_the_caller(client: Client) -> None:
    trace = "4bf92f3577b34da6a3ce929d0e0e4736"
    for header in (
        ("traceparent", f"00-{trace}-00f067aa0ba902b7-01"),
        ("x-request-id", "4bf92f35-77b3-4da6-a3ce-929d0e0e4736"),
    ):
        _, _, status = await refused(client.unary("Echo", HELLO, metadata=[header]))
        info = error_details_pb2.ErrorInfo()
        status.details[0].Unpack(info)
        assert info.metadata["trace_id"] == trace
