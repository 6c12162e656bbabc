"""Certificates of a home: whom they name, who signs them, when they are made anew."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store

from services.stack.pki import CA_LIFE, LEAF_LIFE, Pki

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.fixture
def pki(tmp_path: Path) -> Pki:
    return Pki(tmp_path)


def certificate(pki: Pki, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.identity(name).certificate.read_bytes())


def authority(pki: Pki) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pki.identity("identity").ca.read_bytes())


def test_a_certificate_names_its_service_by_uri_and_dns_and_nothing_else(pki: Pki) -> None:
    pki.ensure(["identity"], NOW)
    names = certificate(pki, "identity").extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(names) == [
        x509.UniformResourceIdentifier("spiffe://sampan/identity"),
        x509.DNSName("identity.sampan.internal"),
    ]


def test_a_certificate_is_believed_for_its_own_name_only(pki: Pki) -> None:
    pki.ensure(["identity"], NOW)
    policy = PolicyBuilder().store(Store([authority(pki)])).time(NOW + timedelta(days=1))
    leaf = certificate(pki, "identity")
    chain = policy.build_server_verifier(x509.DNSName("identity.sampan.internal")).verify(leaf, [])
    assert len(chain) == 2
    with pytest.raises(x509.verification.VerificationError):
        policy.build_server_verifier(x509.DNSName("payment.sampan.internal")).verify(leaf, [])


def test_a_certificate_serves_both_sides_and_signs_no_other(pki: Pki) -> None:
    pki.ensure(["identity"], NOW)
    extensions = certificate(pki, "identity").extensions
    uses = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(uses) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}
    assert not extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert not extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign


def test_all_files_are_private(pki: Pki) -> None:
    pki.ensure(["identity", "edge"], NOW)
    assert {path.stat().st_mode & 0o777 for path in pki.folder.iterdir()} == {0o600}


def test_a_young_certificate_is_kept(pki: Pki) -> None:
    assert pki.ensure(["identity"], NOW) == ["identity"]
    first = certificate(pki, "identity")
    assert pki.ensure(["identity"], NOW + LEAF_LIFE / 2) == []
    assert certificate(pki, "identity") == first


def test_a_certificate_past_half_its_life_is_renewed_under_the_same_authority(pki: Pki) -> None:
    pki.ensure(["identity"], NOW)
    first, signer = certificate(pki, "identity"), authority(pki)
    late = NOW + LEAF_LIFE / 2 + timedelta(seconds=1)
    assert pki.ensure(["identity"], late) == ["identity"]
    assert certificate(pki, "identity").serial_number != first.serial_number
    assert certificate(pki, "identity").not_valid_after_utc == late + LEAF_LIFE
    assert authority(pki) == signer


def test_a_new_authority_signs_all_certificates_anew(pki: Pki) -> None:
    pki.ensure(["identity", "edge"], NOW)
    late = NOW + CA_LIFE / 2 + timedelta(seconds=1)
    assert pki.ensure(["identity", "edge"], late) == ["identity", "edge"]
    certificate(pki, "edge").verify_directly_issued_by(authority(pki))


def test_a_lost_key_is_replaced(pki: Pki) -> None:
    pki.ensure(["identity", "edge"], NOW)
    pki.identity("identity").key.unlink()
    assert pki.ensure(["identity", "edge"], NOW) == ["identity"]


def test_certificates_of_a_clock_that_ran_ahead_are_replaced(pki: Pki) -> None:
    pki.ensure(["identity"], NOW + timedelta(days=1))
    assert pki.ensure(["identity"], NOW) == ["identity"]
