"""seed: demo people, made through the public interface as anybody would be."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from services.stack.commands.console import secrets_of, table, this_home, told_errors
from services.stack.errors import StackError

if TYPE_CHECKING:
    import httpx

TIMEOUT = 20.0
TAKEN = 409


@dataclass(frozen=True, slots=True)
class Demo:
    """One of the demo people. Bank accounts are made up."""

    username: str
    name: str
    bio: str
    bank: str
    number: str


PEOPLE = (
    Demo("demo.malee", "Malee", "Noodles by the river, Bangkok", "Krung Thep Demo Bank", "0011223344"),
    Demo("demo.siti", "Siti", "Batik and cloth, Yogyakarta", "Bank Demo Nusantara", "2233445566"),
    Demo("demo.linh", "Linh", "Coffee from Da Lat", "Ngan hang Demo", "4455667788"),
    Demo("demo.jose", "José", "Jeepney art, Manila", "Bangko Demo", "6677889900"),
    Demo("demo.weiming", "Wei Ming", "Repairs phones, Singapore", "Demo Bank SG", "8899001122"),
)


def seed(
    *,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Do not print the table.")] = False,
) -> None:
    """Make demo people with profiles, through the public interface. Doing it again changes nothing.

    All have one password, made for this home. In production it is refused.

    \b
    Examples:
      sampan seed
    """
    with told_errors():
        home, environment = this_home()
        if environment.get("SAMPAN_ENVIRONMENT") == "production":
            raise StackError("seed", "this is production: demo people have no place here")
        from services.stack.envoy_part import Edge

        password = secrets_of(home).demo_password
        rows = list(seeded(Edge(environment), password))
        if not quiet:
            table(("USERNAME", "ID", "NAME", "WHAT"), rows)
            typer.echo(f"password of all: {password}")


def seeded(edge: Any, password: str) -> Iterator[tuple[str, str, str, str]]:
    import httpx

    trusted = ssl.create_default_context(cafile=str(edge.certificate)) if edge.certificate else True
    with httpx.Client(base_url=edge.url, timeout=TIMEOUT, verify=trusted) as client:
        for demo in PEOPLE:
            try:
                yield make(client, demo, password)
            except httpx.TransportError as error:
                hint = "Run ./scripts/up first."
                raise StackError("envoy", f"does not answer at {edge.url}: {error}", hint) from None


def make(client: httpx.Client, demo: Demo, password: str) -> tuple[str, str, str, str]:
    """Registers and gives a profile; who is there already is signed in, and keeps their profile."""
    body = {"username": demo.username, "password": password, "display_name": demo.name}
    answer = client.post("/v1/auth/register", json=body)
    made = answer.status_code != TAKEN
    if not made:
        answer = client.post("/v1/auth/login", json={"username": demo.username, "password": password})
    signed_in = expect(answer, "register" if made else "login")
    profile = client.post(
        "/v1/profile",
        json={
            "display_name": demo.name,
            "bio": demo.bio,
            "bank_account_name": demo.bank,
            "bank_account_holder": demo.name,
            "bank_account_number": demo.number,
        },
        headers={"authorization": f"Bearer {signed_in['access_token']}"},
    )
    if profile.status_code != TAKEN:
        expect(profile, "profile")
    return demo.username, signed_in["id"], demo.name, "made" if made else "was there"


def expect(answer: httpx.Response, what: str) -> dict[str, Any]:
    if not answer.is_success:
        detail = answer.json().get("detail", "") if answer.content else ""
        raise StackError("seed", f"{what} answers {answer.status_code}: {detail}", "See sampan health.")
    found: dict[str, Any] = answer.json()
    return found
