"""Where the servers are, and as whom to enter: ours on loopback, or outside ones named by the caller."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit

from services.stack import nats_part, postgres_part, redis_part
from services.stack.errors import StackError
from services.stack.home import Home, State
from services.stack.ports import LOOPBACK
from services.stack.secrets import Secrets, load_or_make
from services.stack.topology import SERVERS, SERVICES

# An outside server's address stands here; PostgreSQL's with a role that may create roles and databases.
OUTSIDE = {name: f"SAMPAN_{name.upper()}_URL" for name in SERVERS}
SCHEMES = {"postgres": ("postgresql", "postgres"), "redis": ("redis", "rediss"), "nats": ("nats", "tls")}
DEFAULT_PORTS = {"postgres": 5432, "redis": 6379, "nats": 4222}


@dataclass(frozen=True, slots=True)
class Addresses:
    """Answers with URLs and host-port pairs; holds no connection."""

    secrets: Secrets
    ports: Mapping[str, int]
    environment: Mapping[str, str]

    def outside(self, part: str) -> str:
        return self.environment.get(OUTSIDE[part], "")

    def socket(self, part: str) -> tuple[str, int]:
        url = self.outside(part)
        if not url:
            return LOOPBACK, self.ports[part]
        try:
            split = urlsplit(url)
            host, port = split.hostname, split.port or DEFAULT_PORTS[part]
        except ValueError:
            split, host, port = urlsplit(""), None, 0
        if host is None or split.scheme not in SCHEMES[part]:
            example = f"{SCHEMES[part][0]}://user:password@host:{DEFAULT_PORTS[part]}"
            raise StackError(part, f"{OUTSIDE[part]} is not an address", f"It should look like {example}")
        return host, port

    def superuser(self) -> str:
        """The URL by which roles and databases are made."""
        return self.outside("postgres") or postgres_part.url(
            postgres_part.SUPERUSER, self.secrets.postgres_superuser, self.ports["postgres"], "postgres"
        )

    def database(self, service: str, *, owner: bool = False) -> str:
        """A service's database as its running role, or as the owner of its tables. The caller's own wins."""
        given = self.environment.get(f"SAMPAN_{service.upper()}_{'OWNER' if owner else 'DATABASE'}_URL")
        if given:
            return given
        role = f"{service}_owner" if owner else service
        password = self.secrets.postgres_roles[role]
        if not self.outside("postgres"):
            return postgres_part.url(role, password, self.ports["postgres"], f"sampan_{service}")
        split = urlsplit(self.outside("postgres"))
        place = split.netloc.rpartition("@")[2]
        netloc = f"{quote(role)}:{quote(password)}@{place}"
        return urlunsplit(split._replace(netloc=netloc, path=f"/sampan_{service}"))

    def managed(self, service: str) -> bool:
        """Whether we make this service's database: not if the caller brought one."""
        return SERVICES[service].database and f"SAMPAN_{service.upper()}_DATABASE_URL" not in self.environment

    def migrated(self, service: str) -> bool:
        """Whether we may change this service's schema: for a database of the caller's, given its owner."""
        brought = f"SAMPAN_{service.upper()}_OWNER_URL" in self.environment
        return SERVICES[service].database and (self.managed(service) or brought)

    def redis(self, service: str) -> str:
        return self.outside("redis") or redis_part.url(service, self.secrets, self.ports["redis"])

    def nats(self, service: str) -> str:
        return self.outside("nats") or nats_part.url(service, self.secrets, self.ports["nats"])


def addresses_of(home: Home, state: State, environment: Mapping[str, str]) -> Addresses:
    """Addresses for a command that does not start the stack, but works with a home that has been up once."""
    unknown = [name for name in SERVERS if name not in state.ports and not environment.get(OUTSIDE[name])]
    if unknown:
        raise StackError(unknown[0], f"has never been started in {home.root}", "Run ./scripts/up first.")
    return Addresses(load_or_make(home, SERVICES), state.ports, environment)
