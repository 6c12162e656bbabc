"""migrate and db: the databases of the services."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Annotated

import typer

from services.stack.commands.console import (
    FAILED,
    one_of,
    replace_process,
    require_servers,
    table,
    this_home,
    told_errors,
)
from services.stack.errors import StackError
from services.stack.topology import SERVICES

OWNERS = tuple(name for name, service in SERVICES.items() if service.database)

migrate = typer.Typer(no_args_is_help=True, help="Move the databases' schemas forth and back, or show them.")
db = typer.Typer(no_args_is_help=True, help="Reach a service's database.")

Some = Annotated[str, typer.Argument(help="One service; default: all.", callback=one_of(OWNERS))]
One = Annotated[str, typer.Argument(help="The service.", callback=one_of(OWNERS))]
AsOwner = Annotated[bool, typer.Option("--owner", help="As the role that owns the tables.")]


def urls(service: str, *, owner: bool) -> dict[str, str]:
    from services.stack.addresses import addresses_of

    home, environment = this_home()
    addresses = addresses_of(home, home.load_state(), environment)
    if any(addresses.managed(name) for name in OWNERS):
        require_servers(addresses, ["postgres"])
    chosen = [service] if service else [name for name in OWNERS if not owner or addresses.migrated(name)]
    return {name: addresses.database(name, owner=owner) for name in chosen}


@migrate.command("up")
def migrate_up(service: Some = "") -> None:
    """Bring databases to their newest revision; `sampan up` does the same.

    \b
    Examples:
      sampan migrate up identity
    """
    from services.mesh import migrations

    with told_errors():
        for name, url in urls(service, owner=True).items():
            asyncio.run(migrations.upgrade(name, url))
            typer.echo(f"{name} is at {migrations.head(name)}")


@migrate.command("down")
def migrate_down(
    service: One,
    revision: Annotated[str, typer.Option("--to", help="A revision, -1 for one back, base for none.")] = "-1",
) -> None:
    """Take a service's database back. Data in what is removed is lost.

    \b
    Examples:
      sampan migrate down identity
      sampan migrate down identity --to base
    """
    from alembic.util import CommandError

    from services.mesh import migrations

    with told_errors():
        url = urls(service, owner=True)[service]
        try:
            asyncio.run(migrations.downgrade(service, url, revision))
        except CommandError as error:
            newest = migrations.head(service)
            hint = f"Its newest is {newest}; sampan migrate version {service} says where it is."
            raise StackError(service, f"cannot go to {revision}: {error}", hint) from None
        typer.echo(f"{service} is at {asyncio.run(migrations.current(url)) or 'base'}")


@migrate.command("up-1")
def migrate_up_1(service: One) -> None:
    """Take a service's database one revision forth.

    \b
    Examples:
      sampan migrate up-1 identity
    """
    from services.mesh import migrations

    with told_errors():
        url = urls(service, owner=True)[service]
        if asyncio.run(migrations.current(url)) != migrations.head(service):
            asyncio.run(migrations.upgrade(service, url, "+1"))
        typer.echo(f"{service} is at {asyncio.run(migrations.current(url))}")


@migrate.command("down-1")
def migrate_down_1(service: One) -> None:
    """Take a service's database one revision back. Data in what is removed is lost.

    \b
    Examples:
      sampan migrate down-1 identity
    """
    migrate_down(service, "-1")


@migrate.command("version")
def migrate_version(service: Some = "") -> None:
    """Print at which revision databases are.

    \b
    Examples:
      sampan migrate version identity
    """
    from services.mesh import migrations

    with told_errors():
        for name, url in urls(service, owner=True).items():
            typer.echo(f"{name} {asyncio.run(migrations.current(url)) or 'base'}")


@migrate.command("create")
def migrate_create(
    *,
    service: One,
    words: Annotated[str, typer.Argument(help="What it does, such as 'add preferences'.")],
    empty: Annotated[bool, typer.Option("--empty", help="Do not compare models and database.")] = False,
    into: Annotated[
        Path | None,
        typer.Option("--into", help="Another folder than the service's own.", file_okay=False, exists=True),
    ] = None,
) -> None:
    """Write the next revision: what the models say and the database does not have yet. Read it before use.

    \b
    Examples:
      sampan migrate create profile 'add preferences'
      sampan migrate create identity 'fill the new column' --empty
    """
    from services.mesh import migrations

    with told_errors():
        url = urls(service, owner=True)[service]
        if asyncio.run(migrations.current(url)) != migrations.head(service):
            raise StackError(service, "is not at its newest revision", f"sampan migrate up {service}")
        typer.echo(asyncio.run(migrations.create(service, url, words, into, empty=empty)))


@migrate.command("status")
def migrate_status(service: Some = "") -> None:
    """Show each database's revision and the newest there is. Exit code 1 when one is behind.

    \b
    Examples:
      sampan migrate status
    """
    from services.mesh import migrations

    with told_errors():
        found = {
            name: asyncio.run(migrations.current(url)) for name, url in urls(service, owner=True).items()
        }
        table(
            ("SERVICE", "REVISION", "NEWEST"),
            [(name, revision or "none", migrations.head(name)) for name, revision in found.items()],
        )
        if any(revision != migrations.head(name) for name, revision in found.items()):
            raise typer.Exit(FAILED)


@db.command("url")
def db_url(*, service: One, owner: AsOwner = False) -> None:
    """Print the URL of a service's database, password and all, for a graphical client.

    \b
    Examples:
      sampan db url identity
    """
    with told_errors():
        typer.echo(urls(service, owner=owner)[service])


@db.command("shell")
def db_shell(*, service: One, owner: AsOwner = False) -> None:
    """Open psql on a service's database, as its running role.

    \b
    Examples:
      sampan db shell identity
      echo 'select count(*) from accounts' | sampan db shell identity
    """
    from urllib.parse import unquote, urlsplit, urlunsplit

    from services.stack import binaries
    from services.stack.paths import ROOT

    with told_errors():
        split = urlsplit(urls(service, owner=owner)[service])
        place = split.netloc.rpartition("@")[2]
        # The password goes by environment: arguments are everyone's to read.
        bare = urlunsplit(split._replace(netloc=f"{split.username}@{place}" if split.username else place))
        variables = {**os.environ, "PGPASSWORD": unquote(split.password or "")}
        replace_process((str(binaries.postgres_programs() / "psql"), bare), variables, ROOT)
