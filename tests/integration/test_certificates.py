"""Certificates that are renewed while services run: new connections are made under the new ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from sampan.probe.v1 import probe_service_pb2 as probe
from sampan.probe.v1.probe_service_pb2_grpc import ProbeServiceStub
from services.mesh.errors import Unavailable
from services.mesh.tls import Certificate
from services.stack.pki import Pki
from tests.support.certificates import expire, renew, serial_on_disk, serial_served
from tests.support.mesh import Minter, make_pki, probe_app, serving
from tests.support.replicas import peer_as
from tests.support.waiting import until

HELLO = probe.EchoRequest(text="x")


@pytest.fixture
def own(tmp_path: Path) -> Pki:
    """Certificates of this test only."""
    return make_pki(tmp_path)


def certificate(pki: Pki, clock: list[float]) -> Certificate:
    """That of web, looked at by a clock of the test's."""
    found = pki.identity("web")
    return Certificate(found.certificate, found.key, found.ca, lambda: clock[0])


async def test_a_server_shows_a_renewed_certificate_to_new_connections(own: Pki) -> None:
    async with serving(probe_app(own, Minter())) as address:
        first = serial_on_disk(own, "probe")
        assert await serial_served(address, "web", own) == first
        async with peer_as("web", "probe", own, address) as peer:
            stub = ProbeServiceStub(peer.channel)
            await stub.EchoOnce(HELLO)
            renew(own, "probe")
            second = serial_on_disk(own, "probe")
            assert second != first
            await until(partial(serial_served, address, "web", own), second, within=20)
            await stub.EchoOnce(HELLO)


async def test_a_channel_goes_on_under_a_renewed_certificate(own: Pki) -> None:
    expire(own, "web")
    async with (
        serving(probe_app(own, Minter())) as address,
        peer_as("web", "probe", own, address) as peer,
    ):
        stub = ProbeServiceStub(peer.channel)
        with pytest.raises(Unavailable):
            await stub.EchoOnce(HELLO)
        renew(own, "web")

        async def answered() -> str:
            try:
                return (await stub.EchoOnce(HELLO)).caller
            except Unavailable:
                return ""

        await until(answered, "web", within=20)


def test_a_half_written_pair_is_not_taken(own: Pki) -> None:
    clock = [0.0]
    found = certificate(own, clock)
    first = found.current()
    identity = own.identity("web")
    certificate_before = identity.certificate.read_bytes()
    renew(own, "web")
    whole = identity.certificate.read_bytes()
    identity.certificate.write_bytes(certificate_before)
    clock[0] += 2
    assert found.current() is first
    identity.certificate.write_bytes(whole[:100])
    clock[0] += 2
    assert found.current() is first
    identity.certificate.unlink()
    clock[0] += 2
    assert found.current() is first
    identity.certificate.write_bytes(whole)
    clock[0] += 2
    assert found.current().certificate == whole
    assert found.current() is found.current()
