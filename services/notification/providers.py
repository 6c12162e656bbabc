"""Who carries messages away: SMTP for e-mail, HTTP for SMS. Their answers are told in words of ours."""

from __future__ import annotations

import asyncio
import contextlib
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP as SMTP_POLICY
from email.utils import localtime
from typing import Protocol
from urllib.parse import quote
from uuid import UUID

import aiosmtplib
import httpx

from services.notification.domain import Letter
from services.notification.settings import NotificationSettings

# Seconds for a polite good-bye to a server that has already taken the mail.
_QUIT = 1.0
# HTTP 4xx that may go well later: the request took too long, there were too many.
_LATER = (408, 425, 429)


class SendFailed(Exception):
    """A provider did not take a message. `final`: trying again would not help.

    `failure` is a short word of ours, since a provider's own text may repeat address or message.
    """

    def __init__(self, failure: str, *, final: bool = False) -> None:
        self.failure = failure
        self.final = final
        super().__init__(failure)


class Provider(Protocol):
    """Carries letters of one channel."""

    async def send(self, delivery_id: UUID, letter: Letter) -> None:
        """Returns when the provider has taken the letter. Raises SendFailed."""
        ...

    async def close(self) -> None:
        """Closes connections."""
        ...


class SmtpProvider:
    """E-mail: one connection for each message. The Message-ID is the delivery's, also at another try."""

    def __init__(self, settings: NotificationSettings) -> None:
        self._settings = settings
        self._from = _mailbox(settings.smtp_from)

    async def send(self, delivery_id: UUID, letter: Letter) -> None:
        """Raises SendFailed: for good on an answer of 500 and above, for now on anything else."""
        message = self._message(delivery_id, letter)
        try:
            await self._hand_over(message, letter.to)
        except aiosmtplib.SMTPRecipientsRefused as error:
            raise _smtp_failure(error.recipients[0].code) from None
        except aiosmtplib.SMTPResponseException as error:
            raise _smtp_failure(error.code) from None
        except aiosmtplib.SMTPNotSupported:
            raise SendFailed("smtp unsupported", final=True) from None
        except TimeoutError:
            raise SendFailed("timeout") from None
        except (aiosmtplib.SMTPException, OSError):
            raise SendFailed("smtp connection") from None

    async def close(self) -> None:
        """There is nothing open."""

    async def _hand_over(self, message: EmailMessage, to: str) -> None:
        settings = self._settings
        client = aiosmtplib.SMTP(
            hostname=settings.smtp_host,
            port=settings.smtp_port,
            username=settings.smtp_username or None,
            password=settings.smtp_password.get_secret_value() or None,
            use_tls=settings.smtp_security == "tls",
            # Never "if the server offers it": somebody in between could say that it does not.
            start_tls=settings.smtp_security == "starttls",
            cert_bundle=str(settings.smtp_ca) if settings.smtp_ca else None,
            # The library would look up this machine's name, which can take seconds.
            local_hostname=self._from.domain,
            timeout=settings.provider_timeout,
        )
        try:
            await client.connect()
            await client.send_message(message, sender=self._from.addr_spec, recipients=[to])
            # Taken. A server that is slow to say good-bye must not make us send it again.
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(_QUIT):
                    await client.quit()
        finally:
            client.close()

    def _message(self, delivery_id: UUID, letter: Letter) -> EmailMessage:
        message = EmailMessage(policy=SMTP_POLICY)
        try:
            message["From"] = self._from
            message["To"] = _mailbox(letter.to)
        except ValueError:
            raise SendFailed("address", final=True) from None
        message["Subject"] = letter.subject
        message["Date"] = localtime()
        message["Message-ID"] = f"<{delivery_id}@{self._from.domain}>"
        # So that out-of-office programs do not answer (RFC 3834).
        message["Auto-Submitted"] = "auto-generated"
        message.set_content(letter.body)
        return message


class HttpSmsProvider:
    """SMS over HTTP in the form of Twilio. The delivery's id goes along as idempotency key."""

    def __init__(self, settings: NotificationSettings) -> None:
        account = settings.http_sms_account
        self._path = f"/2010-04-01/Accounts/{quote(account, safe='')}/Messages.json"
        self._from = settings.http_sms_from
        self._client = httpx.AsyncClient(
            base_url=settings.http_sms_url,
            auth=httpx.BasicAuth(account, settings.http_sms_token.get_secret_value()),
            timeout=settings.provider_timeout,
            limits=httpx.Limits(max_connections=settings.concurrency),
            trust_env=False,
        )

    async def send(self, delivery_id: UUID, letter: Letter) -> None:
        """Raises SendFailed: for good on 4xx but for those that ask to wait, for now on anything else."""
        key = str(delivery_id)
        try:
            answer = await self._client.post(
                self._path,
                data={"To": letter.to, "From": self._from, "Body": letter.body},
                headers={"Idempotency-Key": key, "I-Twilio-Idempotency-Token": key},
            )
        except httpx.TimeoutException:
            raise SendFailed("timeout") from None
        except httpx.HTTPError:
            raise SendFailed("http connection") from None
        code = answer.status_code
        if not answer.is_success:
            # Nobody who is to be trusted with codes moves to another address unannounced: 3xx is final, too.
            raise SendFailed(f"http {code}", final=300 <= code < 500 and code not in _LATER)

    async def close(self) -> None:
        """Closes connections."""
        await self._client.aclose()


def _smtp_failure(code: int) -> SendFailed:
    return SendFailed(f"smtp {code}", final=code >= 500)


def _mailbox(address: str) -> Address:
    """An address as a header takes it. Raises ValueError."""
    local, _, domain = address.rpartition("@")
    if not local or not domain:
        raise ValueError("an address needs both sides of its @")
    return Address(username=local, domain=domain)
