"""Redis as a part: a cache that may be lost, one user per service, limited to that service's keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from services.mesh import liveness
from services.stack import binaries
from services.stack.files import write_private
from services.stack.home import Home
from services.stack.part import Part, inherited
from services.stack.ports import LOOPBACK
from services.stack.secrets import Secrets

CONFIGURATION = """\
bind {host}
port {port}
protected-mode yes
daemonize no
dir {folder}
aclfile {acl}
# What is here may be forgotten: nothing is written to disk.
save ""
appendonly no
maxmemory 128mb
maxmemory-policy allkeys-lru
tcp-keepalive 60
loglevel warning
"""

# Buckets that the replicas of a service share: `ratelimit:<service>:...`.
BUCKETS = "ratelimit"
# What a service does: keep keys, talk, run scripts that it brings, ask the time; not look after the server.
RIGHTS = (
    "-@all +@read +@write +@connection +@pubsub +@transaction +@scripting +time -script -@admin -@dangerous"
)


def acl_line(user: str, password: str) -> str:
    """Rights of one service; the server sees a hash of the password only."""
    digest = hashlib.sha256(password.encode()).hexdigest()
    reach = f"~{user}:* &{user}:* ~{BUCKETS}:{user}:*"
    return f"user {user} on #{digest} resetchannels {reach} {RIGHTS} +client|setname"


def acl(users: Mapping[str, str]) -> str:
    lines = ["user default off", *(acl_line(user, password) for user, password in sorted(users.items()))]
    return "\n".join(lines) + "\n"


def redis_part(home: Home, secrets: Secrets, port: int, environment: Mapping[str, str]) -> Part:
    folder = home / "redis"
    configuration = folder / "redis.conf"
    users = folder / "users.acl"

    def prepare() -> None:
        write_private(users, acl(secrets.redis_users))
        text = CONFIGURATION.format(host=LOOPBACK, port=port, folder=quoted(folder), acl=quoted(users))
        write_private(configuration, text)

    async def answers() -> bool:
        return await liveness.redis(LOOPBACK, port)

    return Part(
        name="redis",
        command=(*binaries.dies_with_parent(), str(binaries.redis_server()), str(configuration)),
        environment=inherited(environment),
        folder=folder,
        ready=answers,
        alive=answers,
        prepare=prepare,
    )


def quoted(value: object) -> str:
    """Redis reads quoted arguments with C escapes: a path may hold spaces."""
    text = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'


def url(user: str, secrets: Secrets, port: int) -> str:
    return f"redis://{user}:{secrets.redis_users[user]}@{LOOPBACK}:{port}/0"
