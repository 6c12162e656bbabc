"""Backup and restore: each context's database, the keys that read it, and files, in one private archive.

Databases are dumped by pg_dump, each from one snapshot, while services go on. What is not in it: passwords of
roles and certificates (a new home makes its own), Redis (may be forgotten), JetStream (follows from the
databases).
"""

from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from services.mesh import migrations
from services.stack import binaries, bootstrap
from services.stack.addresses import Addresses
from services.stack.errors import StackError
from services.stack.files import write_private
from services.stack.home import Home
from services.stack.part import inherited
from services.stack.secrets import FILE as SECRETS
from services.stack.secrets import Secrets

VERSION = 1
MANIFEST = "manifest.json"
KEYS = "keys.json"
FILES = "files"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an archive holds: the revision of each context's database when it was dumped."""

    version: int
    made: str
    revisions: dict[str, str]


def write(home: Home, addresses: Addresses, target: Path) -> Manifest:
    """Writes an archive in one step, readable by its owner only. PostgreSQL must be up."""
    names = bootstrap.services_with_database()
    partial = target.with_name(f".{target.name}.part")
    with tempfile.TemporaryDirectory(prefix="sampan-backup-", dir=target.parent) as scratch:
        revisions = {}
        for name in names:
            url = addresses.database(name, owner=True)
            revisions[name] = asyncio.run(migrations.current(url)) or ""
            dump(url, Path(scratch) / f"{name}.dump", addresses.environment)
        manifest = Manifest(VERSION, datetime.now(UTC).isoformat(timespec="seconds"), revisions)
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                with tarfile.open(fileobj=stream, mode="w") as archive:
                    add_text(archive, MANIFEST, asdict(manifest))
                    add_text(archive, KEYS, keys_of(addresses.secrets))
                    for name in names:
                        archive.add(Path(scratch) / f"{name}.dump", f"{name}.dump")
                    if (home / FILES).is_dir():
                        archive.add(home / FILES, FILES)
                stream.flush()
                os.fsync(stream.fileno())
            partial.rename(target)
        finally:
            partial.unlink(missing_ok=True)
    return manifest


def keys_of(secrets: Secrets) -> dict[str, Any]:
    return {"master_keys": secrets.master_keys, "demo_password": secrets.demo_password}


def add_text(archive: tarfile.TarFile, name: str, content: Mapping[str, Any]) -> None:
    raw = json.dumps(content, indent=1).encode()
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(raw), 0o600
    archive.addfile(entry, io.BytesIO(raw))


def read_manifest(source: Path) -> Manifest:
    """What an archive holds. Raises StackError when it is none, or when this code is too old for it."""
    try:
        with tarfile.open(source) as archive:
            manifest = Manifest(**json.loads(member(archive, MANIFEST)))
    except (tarfile.TarError, KeyError, ValueError, TypeError):
        raise StackError("restore", f"{source} is not a backup of Sampan") from None
    if manifest.version > VERSION:
        raise StackError("restore", f"{source} was written by a newer Sampan", "Update Sampan first.")
    for name, revision in manifest.revisions.items():
        if name not in bootstrap.services_with_database():
            raise StackError("restore", f"{source} holds a database of {name}, which is not known here")
        if revision > migrations.head(name):
            reason = (
                f"the database of {name} is at {revision}, and here the newest is {migrations.head(name)}"
            )
            raise StackError("restore", reason, "Update Sampan first.")
    return manifest


def member(archive: tarfile.TarFile, name: str) -> bytes:
    found = archive.extractfile(name)
    if found is None:
        raise KeyError(name)
    return found.read()


def unpack(archive: tarfile.TarFile, folder: Path) -> None:
    """Writes an archive's files into a folder. Raises StackError for what is no file or stands outside of it.

    Not `extractall`, whose safe way is not in every Python 3.11.
    """
    for one in archive:
        target = folder / one.name
        if one.isdir():
            continue
        if not one.isfile() or not target.resolve().is_relative_to(folder.resolve()):
            raise StackError("restore", f"{one.name!r} is not a file that a backup holds")
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("wb") as file:
            shutil.copyfileobj(archive.extractfile(one) or io.BytesIO(), file)


def restore_keys(home: Home, source: Path) -> None:
    """Puts the archive's master keys into the home, before anything of it is started."""
    with tarfile.open(source) as archive:
        keys = json.loads(member(archive, KEYS))
    path = home / SECRETS
    known = Secrets.from_json(path.read_text()) if path.exists() else Secrets()
    known.master_keys = {**known.master_keys, **keys["master_keys"]}
    known.demo_password = keys.get("demo_password", "")
    write_private(path, json.dumps(asdict(known), indent=1) + "\n", durable=True)


def restore_data(home: Home, addresses: Addresses, source: Path) -> None:
    """Replaces the databases by those of the archive and brings them to the newest revision."""
    manifest = read_manifest(source)
    with tempfile.TemporaryDirectory(prefix="sampan-restore-", dir=home.root / "run") as scratch:
        folder = Path(scratch)
        with tarfile.open(source) as archive:
            unpack(archive, folder)
        for name in manifest.revisions:
            asyncio.run(empty(addresses, name))
            load(addresses.database(name, owner=True), folder / f"{name}.dump", addresses.environment)
        asyncio.run(bootstrap.migrate(addresses, manifest.revisions))
        if (folder / FILES).is_dir():
            shutil.copytree(folder / FILES, home / FILES, dirs_exist_ok=True)


async def empty(addresses: Addresses, service: str) -> None:
    """Takes everything out of a service's database, in the name of its owner."""
    connection = await bootstrap.connect(addresses.database(service, owner=True))
    try:
        await connection.execute("DROP SCHEMA public CASCADE")
        await connection.execute("CREATE SCHEMA public")
        for statement in bootstrap.schema_rights(service):
            await connection.execute(statement)
    finally:
        await connection.close()


def dump(url: str, target: Path, environment: Mapping[str, str]) -> None:
    run("pg_dump", url, environment, "--format=custom", "--no-password", f"--file={target}")


def load(url: str, source: Path, environment: Mapping[str, str]) -> None:
    """All of it or nothing. Objects belong to whoever restores them: the owner, as after a migration."""
    options = ("--single-transaction", "--exit-on-error", "--no-owner", "--no-password", str(source))
    run("pg_restore", url, environment, *options)


def run(program: str, url: str, environment: Mapping[str, str], *options: str) -> None:
    """Runs a client program; the password goes by environment, since arguments are everyone's to read."""
    split = urlsplit(url)
    place = split.netloc.rpartition("@")[2]
    bare = urlunsplit(split._replace(netloc=f"{split.username}@{place}" if split.username else place))
    done = subprocess.run(
        (str(binaries.postgres_programs() / program), f"--dbname={bare}", *options),
        env={**inherited(environment), "PGPASSWORD": unquote(split.password or "")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StackError(program, " ".join(done.stderr.split())[:1000] or f"exit code {done.returncode}")
