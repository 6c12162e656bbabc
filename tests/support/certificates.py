"""Certificates for tests: made to look old, renewed, and seen as who connects sees them."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import serialization as form

from services.stack.files import write_private
from services.stack.pki import INDEX, LEAF_LIFE, Authority, Pki


def renew(pki: Pki, *names: str) -> None:
    """Renews certificates as a supervisor does when they have passed half of their life."""
    path = pki.folder / INDEX
    made = json.loads(path.read_text())
    old = (datetime.now(UTC) - LEAF_LIFE / 2 * 1.1).isoformat()
    write_private(path, json.dumps(made | dict.fromkeys(names, old)))
    assert pki.ensure(names) == list(names)


def expire(pki: Pki, name: str) -> None:
    """Puts a certificate in place that ran out an hour ago."""
    moment = datetime.now(UTC) - LEAF_LIFE - timedelta(hours=1)
    issued, key = Authority.load(pki.folder).issue(name, moment)
    found = pki.identity(name)
    private = key.private_bytes(form.Encoding.PEM, form.PrivateFormat.PKCS8, form.NoEncryption())
    write_private(found.key, private)
    write_private(found.certificate, issued.public_bytes(form.Encoding.PEM))


def serial_on_disk(pki: Pki, name: str) -> int:
    """The serial number of a certificate as it lies in its file."""
    return x509.load_pem_x509_certificate(pki.identity(name).certificate.read_bytes()).serial_number


async def serial_served(address: str, caller: str, pki: Pki) -> int:
    """The serial number of the certificate that a server shows to a new connection."""
    mine = pki.identity(caller)
    context = ssl.create_default_context(cafile=str(mine.ca))
    context.check_hostname = False
    context.load_cert_chain(mine.certificate, mine.key)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port), ssl=context)
    shown = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return x509.load_der_x509_certificate(shown).serial_number
