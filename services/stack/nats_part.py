"""NATS with JetStream as a part: one user per service, which publishes under its own name only."""

from __future__ import annotations

import json
from collections.abc import Mapping

from services.mesh import liveness
from services.mesh.subjects import inbox_of, stream_of
from services.stack import binaries
from services.stack.files import write_private
from services.stack.home import Home
from services.stack.part import Part, inherited
from services.stack.pki import OPERATOR
from services.stack.ports import LOOPBACK
from services.stack.secrets import Secrets

# What services hear on core NATS, where nothing is kept: replicas of each other, and who comes and goes.
_HEARD = {
    "messaging": (
        "sampan.messaging.live.*",
        "sampan.messaging.user.*",
        "sampan.messaging.alive.*",
        "sampan.presence.changed.*",
    )
}


def permissions(user: str) -> dict[str, object]:
    """What a user may say and hear.

    A service publishes under its own name, makes the stream of its own events, pulls under its own name from
    any stream, and hears answers to itself. The operator only listens.
    """
    if user == OPERATOR:
        return {"publish": {"deny": ">"}, "subscribe": ["sampan.>"]}
    stream, api = stream_of(user), "$JS.API"
    own = [f"{api}.STREAM.{verb}.{stream}" for verb in ("INFO", "CREATE", "UPDATE")]
    pull = [f"{api}.CONSUMER.CREATE.*.{user}", f"{api}.CONSUMER.MSG.NEXT.*.{user}", f"$JS.ACK.*.{user}.>"]
    heard = [f"{inbox_of(user)}.>", *_HEARD.get(user, ())]
    return {"publish": [f"sampan.{user}.>", *own, *pull], "subscribe": heard}


def configuration(secrets: Secrets, port: int, store: str) -> str:
    """The server's configuration; it reads JSON. Passwords are plain: the file is private, and hashing each
    connection's password would cost more than the connection."""
    users = [
        {"user": name, "password": password, "permissions": permissions(name)}
        for name, password in sorted(secrets.nats_users.items())
    ]
    settings = {
        "host": LOOPBACK,
        "port": port,
        "server_name": "sampan",
        "jetstream": {"store_dir": store, "max_memory_store": 64 << 20, "max_file_store": 10 << 30},
        "authorization": {"users": users, "timeout": 5},
        "max_payload": 1 << 20,
        "lame_duck_duration": "30s",
        "logtime": True,
    }
    return json.dumps(settings, indent=1) + "\n"


def nats_part(home: Home, secrets: Secrets, port: int, environment: Mapping[str, str]) -> Part:
    folder = home / "nats"
    path = folder / "nats.conf"

    def prepare() -> None:
        write_private(path, configuration(secrets, port, str(folder)))

    async def answers() -> bool:
        return await liveness.nats(LOOPBACK, port)

    return Part(
        name="nats",
        command=(*binaries.dies_with_parent(), str(binaries.nats_server()), "--config", str(path)),
        environment=inherited(environment),
        folder=folder,
        ready=answers,
        alive=answers,
        prepare=prepare,
    )


def url(user: str, secrets: Secrets, port: int) -> str:
    return f"nats://{user}:{secrets.nats_users[user]}@{LOOPBACK}:{port}"
