"""The certificate authority of one home, and a certificate for each service, the edge and the operator."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from services.stack.files import write_private

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

CA_LIFE = timedelta(days=3650)
LEAF_LIFE = timedelta(days=30)
# Clocks of two machines differ a little; a certificate from the future is refused.
BACKDATED = timedelta(minutes=5)
TRUST_DOMAIN = "sampan"
# Who holds a certificate without being a service: the edge, and the person at the keyboard.
EDGE, OPERATOR = "edge", "operator"
# When each was made: so that a warm start need not load the cryptography library to look.
INDEX = "index.json"


@dataclass(frozen=True, slots=True)
class Identity:
    """Paths of one holder's files, all PEM."""

    certificate: Path
    key: Path
    ca: Path


def dns_name(name: str) -> str:
    return f"{name}.sampan.internal"


def spiffe_id(name: str) -> str:
    return f"spiffe://{TRUST_DOMAIN}/{name}"


class Pki:
    """Certificates under one folder. `ensure` makes and renews; the rest are paths."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def identity(self, name: str) -> Identity:
        return Identity(self.folder / f"{name}.crt", self.folder / f"{name}.key", self.folder / "ca.crt")

    def ensure(self, names: Iterable[str], now: datetime | None = None) -> list[str]:
        """Makes what is missing and renews what has less than half its life left; names what it made."""
        moment = now or datetime.now(UTC)
        made = self._read_index()
        if self._stale("ca", made, CA_LIFE, moment):
            self._make_authority(moment)
            # What the old authority signed is worth nothing under the new one.
            made = {"ca": moment}
        stale = [name for name in names if self._stale(name, made, LEAF_LIFE, moment)]
        if stale:
            authority = Authority.load(self.folder)
            for name in stale:
                self._write_pair(name, *authority.issue(name, moment))
                made[name] = moment
        self._write_index(made)
        return stale

    def _stale(self, name: str, made: dict[str, datetime], life: timedelta, now: datetime) -> bool:
        if name not in made or now - made[name] > life / 2 or made[name] - BACKDATED > now:
            return True
        return not all((self.folder / f"{name}.{kind}").exists() for kind in ("crt", "key"))

    def _make_authority(self, now: datetime) -> None:
        key = new_key()
        self._write_pair("ca", authority_certificate(key, now), key)

    def _write_pair(self, name: str, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        from cryptography.hazmat.primitives import serialization as form

        pem = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
        write_private(self.folder / f"{name}.key", pem)
        write_private(self.folder / f"{name}.crt", certificate.public_bytes(form.Encoding.PEM))

    def _read_index(self) -> dict[str, datetime]:
        try:
            raw = json.loads((self.folder / INDEX).read_text())
            return {name: datetime.fromisoformat(text) for name, text in raw.items()}
        except (FileNotFoundError, ValueError):
            return {}

    def _write_index(self, made: dict[str, datetime]) -> None:
        text = (
            json.dumps({name: moment.isoformat() for name, moment in sorted(made.items())}, indent=1) + "\n"
        )
        path = self.folder / INDEX
        if not path.exists() or path.read_text() != text:
            write_private(path, text)


class Authority:
    """The key and certificate that sign the others."""

    def __init__(self, certificate: x509.Certificate, key: EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self.key = key

    @classmethod
    def load(cls, folder: Path) -> Authority:
        from cryptography import x509
        from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
        from cryptography.hazmat.primitives.serialization import load_pem_private_key

        key = load_pem_private_key((folder / "ca.key").read_bytes(), None)
        if not isinstance(key, EllipticCurvePrivateKey):
            raise TypeError(f"{folder / 'ca.key'} is not an elliptic curve key")
        return cls(x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()), key)

    def issue(self, name: str, now: datetime) -> tuple[x509.Certificate, EllipticCurvePrivateKey]:
        """A certificate for both sides of TLS, known by its SPIFFE id and its DNS name."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes
        from cryptography.x509.oid import ExtendedKeyUsageOID

        key = new_key()
        names = [x509.UniformResourceIdentifier(spiffe_id(name)), x509.DNSName(dns_name(name))]
        uses = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            blank(common_name(name), self.certificate.subject, key, now, LEAF_LIFE)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(uses), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(authority, critical=False)
        )
        return builder.sign(self.key, hashes.SHA256()), key


def new_key() -> EllipticCurvePrivateKey:
    from cryptography.hazmat.primitives.asymmetric import ec

    return ec.generate_private_key(ec.SECP256R1())


def common_name(name: str) -> x509.Name:
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=True,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def blank(
    subject: x509.Name, issuer: x509.Name, key: EllipticCurvePrivateKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    from cryptography import x509

    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def authority_certificate(key: EllipticCurvePrivateKey, now: datetime) -> x509.Certificate:
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    name = common_name("Sampan local authority")
    builder = (
        blank(name, name, key, now, CA_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(signs_certificates=True), critical=True)
    )
    return builder.sign(key, hashes.SHA256())
