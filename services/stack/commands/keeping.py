"""backup and restore."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from services.stack.commands.console import agreed, require_servers, this_home, told_errors
from services.stack.commands.lifecycle import bring_down
from services.stack.errors import StackError
from services.stack.home import Home

if TYPE_CHECKING:
    from services.stack.addresses import Addresses


def backup(
    file: Annotated[Path, typer.Argument(help="The archive to write.", dir_okay=False)],
    *,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> None:
    """Write all databases, the keys that read them, and files into one archive. Services may go on meanwhile.

    The archive is a tar, readable by its owner only. Whoever has it can read everything in it: encrypt it
    before it leaves the machine. Works on our own PostgreSQL, up or not, and on an outside one.

    \b
    Examples:
      sampan backup /var/backups/sampan.tar
      sampan backup --force nightly.tar && gpg --symmetric nightly.tar
    """
    from services.stack import backup as work

    with told_errors():
        home, environment = this_home()
        target = file.absolute()
        if not target.parent.is_dir():
            raise StackError("backup", f"there is no folder {target.parent}")
        if target.exists() and not force:
            raise StackError("backup", f"{target} is there already", "Another name, or --force.")
        if not (home / "secrets.json").exists():
            raise StackError("backup", f"there is nothing in {home.root}", "Run ./scripts/up first.")
        with servers(home, environment) as addresses:
            manifest = work.write(home, addresses, target)
        size = target.stat().st_size
        typer.echo(f"{target}: {', '.join(manifest.revisions)}; {size:,} bytes")


def restore(
    file: Annotated[Path, typer.Argument(help="An archive of `sampan backup`.", exists=True, dir_okay=False)],
    *,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before data is replaced.")] = False,
) -> None:
    """Replace all databases by those of an archive. Into an empty home, or with the stack stopped.

    An archive of an older Sampan is brought to the newest revisions; one of a newer is refused. People stay
    signed in as they were when it was written.

    \b
    Examples:
      SAMPAN_HOME=/srv/sampan sampan restore /var/backups/sampan.tar
      sampan restore sampan.tar --yes
    """
    from services.stack import backup as work

    with told_errors():
        home, environment = this_home()
        work.read_manifest(file)
        if home.root.is_dir() and home.held():
            raise StackError("restore", f"{home.root} is in use", "Stop it first: ./scripts/down")
        outside = environment.get("SAMPAN_POSTGRES_URL")
        if ((home / "postgres" / "data").exists() or outside) and not yes:
            where = "the outside PostgreSQL" if outside else str(home.root)
            agreed(f"Replace all data in {where}?")
        home.prepare()
        work.restore_keys(home, file)
        # Streams would tell of what the databases do not know any more.
        shutil.rmtree(home / "nats" / "jetstream", ignore_errors=True)
        with servers(home, environment) as addresses:
            work.restore_data(home, addresses, file)
        typer.echo(f"restored {file} into {home.root}; start it: ./scripts/up")


@contextmanager
def servers(home: Home, environment: Mapping[str, str]) -> Iterator[Addresses]:
    """The servers, as they run or for the while."""
    from services.stack import launch
    from services.stack.addresses import addresses_of

    lock = None if home.held() else home.claim()
    if lock is not None:
        launch.in_background(home, environment, lock, lambda _: None, servers_only=True)
    try:
        addresses = addresses_of(home, home.load_state(), environment)
        require_servers(addresses, ["postgres"])
        yield addresses
    finally:
        if lock is not None:
            asyncio.run(bring_down(home))
