"""What the parts are told: least rights for each service, secrets nowhere in arguments."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from pathlib import Path

import pytest

from services.stack import bootstrap, nats_part, redis_part
from services.stack.addresses import Addresses
from services.stack.binaries import postgres_programs
from services.stack.envoy_part import Edge
from services.stack.errors import StackError
from services.stack.home import Home
from services.stack.part import Part
from services.stack.pki import OPERATOR, Pki
from services.stack.postgres_part import postgres_part, syncs_at_once
from services.stack.secrets import Secrets, complete
from services.stack.service_parts import ServiceParts, is_passed, peers, port_names
from services.stack.topology import SERVICES

PORTS = {"postgres": 11_001, "redis": 11_002, "nats": 11_003} | {
    name: 12_000 + number for number, name in enumerate(port_names())
}


@pytest.fixture
def secrets() -> Secrets:
    made = Secrets()
    complete(made, SERVICES)
    return made


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.prepare()
    return home


def service_parts(home: Home, secrets: Secrets, environment: dict[str, str]) -> list[Part]:
    addresses = Addresses(secrets, PORTS, environment)
    return ServiceParts(home, Pki(home / "pki"), addresses, environment).all()


def all_values(secrets: Secrets) -> list[str]:
    tables = (secrets.postgres_roles, secrets.nats_users, secrets.redis_users)
    passwords = [password for table in tables for password in table.values()]
    return [secrets.postgres_superuser, *secrets.master_keys.values(), *passwords]


def test_no_secret_stands_in_arguments(home: Home, secrets: Secrets) -> None:
    parts = [
        postgres_part(home, secrets, 11_001, {}),
        redis_part.redis_part(home, secrets, 11_002, {}),
        nats_part.nats_part(home, secrets, 11_003, {}),
        *service_parts(home, secrets, {}),
    ]
    arguments = " ".join(word for part in parts for word in part.command)
    assert not [value for value in all_values(secrets) if value in arguments]


def test_configuration_files_are_private(home: Home, secrets: Secrets) -> None:
    redis_part.redis_part(home, secrets, 11_002, {}).prepare()
    nats_part.nats_part(home, secrets, 11_003, {}).prepare()
    written = [path for name in ("redis", "nats") for path in (home / name).iterdir()]
    assert len(written) == 3
    assert {path.stat().st_mode & 0o777 for path in written} == {0o600}


@pytest.mark.parametrize(
    ("system", "release", "expected"),
    [
        ("Linux", "5.8.0", True),
        ("Linux", "6.1.0-18-amd64", True),
        ("Linux", "5.7.19", False),
        ("Linux", "4.18.0-553", False),
        ("Linux", "", False),
        ("Darwin", "24.1.0", False),
    ],
)
def test_only_a_kernel_that_tells_of_failed_writes_syncs_at_once(
    system: str, release: str, expected: bool
) -> None:
    assert syncs_at_once(system, release) is expected


def test_redis_has_no_default_user_and_keeps_services_apart() -> None:
    text = redis_part.acl({"identity": "secret", "payment": "other"})
    assert "user default off" in text
    line = next(line for line in text.splitlines() if line.startswith("user identity "))
    assert {word for word in line.split() if word.startswith("~")} == {"~identity:*", "~ratelimit:identity:*"}
    assert "secret" not in text
    assert hashlib.sha256(b"secret").hexdigest() in line
    assert "-@dangerous" in line


def test_nats_lets_a_service_publish_under_its_own_name_only(secrets: Secrets) -> None:
    users = json.loads(nats_part.configuration(secrets, 1, "/store"))["authorization"]["users"]
    rights = {user["user"]: user["permissions"] for user in users}
    assert set(rights) == {*SERVICES, OPERATOR}
    assert rights[OPERATOR]["publish"] == {"deny": ">"}
    for service in SERVICES:
        published = [s for s in rights[service]["publish"] if s.startswith("sampan.")]
        assert published == [f"sampan.{service}.>"]
        assert rights[service]["subscribe"][0] == f"_INBOX.{service}.>"
    # What is not kept: replicas of messaging tell each other, presence tells messaging; nobody else hears it.
    heard = {service: rights[service]["subscribe"][1:] for service in SERVICES}
    assert {service for service, subjects in heard.items() if subjects} == {"messaging"}
    assert heard["messaging"] == [
        "sampan.messaging.live.*",
        "sampan.messaging.user.*",
        "sampan.messaging.alive.*",
        "sampan.presence.changed.*",
        "sampan.presence.preferences.*",
    ]


def test_a_process_gets_the_secrets_of_its_own_services_only(home: Home, secrets: Secrets) -> None:
    for part in service_parts(home, secrets, {}):
        told = " ".join(part.environment.values())
        assert secrets.postgres_superuser not in told
        for service in SERVICES:
            runs = f"SAMPAN_{service.upper()}_LISTEN" in part.environment
            assert (secrets.redis_users[service] in told) == runs
            assert secrets.postgres_roles[f"{service}_owner"] not in told


def test_every_process_knows_all_peers_and_servers(home: Home, secrets: Secrets) -> None:
    for part in service_parts(home, secrets, {}):
        assert json.loads(part.environment["SAMPAN_PEERS"]) == peers(PORTS)
        assert json.loads(part.environment["SAMPAN_PARTS"])["nats"] == ["127.0.0.1", 11_003]


@pytest.mark.parametrize(
    ("name", "passed"),
    [
        ("SAMPAN_IDENTITY_ACCESS_TOKEN_SECONDS", True),
        ("SAMPAN_REDIS_URL", True),
        ("SAMPAN_POSTGRES_URL", False),
        ("SAMPAN_IDENTITY_OWNER_URL", False),
        ("SAMPAN_READY_FD", False),
        ("SAMPAN_IDENTITY_LISTEN", False),
        ("SOMETHING_ELSE", False),
    ],
)
def test_services_get_the_callers_settings_but_not_an_owners_rights(name: str, *, passed: bool) -> None:
    assert is_passed(name) is passed


def test_an_outside_postgres_is_used_with_the_services_own_role(secrets: Secrets) -> None:
    outside = "postgresql://admin:pw@db.example:6000/postgres?sslmode=require"
    addresses = Addresses(secrets, {}, {"SAMPAN_POSTGRES_URL": outside})
    password = secrets.postgres_roles["identity"]
    expected = f"postgresql://identity:{password}@db.example:6000/sampan_identity?sslmode=require"
    assert addresses.database("identity") == expected
    assert addresses.superuser() == outside
    assert addresses.socket("postgres") == ("db.example", 6000)


def test_a_database_of_the_callers_own_is_neither_made_nor_migrated_without_its_owner(
    secrets: Secrets,
) -> None:
    own = {"SAMPAN_IDENTITY_DATABASE_URL": "postgresql://me@elsewhere/mine"}
    addresses = Addresses(secrets, PORTS, own)
    assert addresses.database("identity") == own["SAMPAN_IDENTITY_DATABASE_URL"]
    assert not addresses.managed("identity")
    assert not addresses.migrated("identity")
    owner = {"SAMPAN_IDENTITY_OWNER_URL": "postgresql://boss@elsewhere/mine"}
    assert Addresses(secrets, PORTS, own | owner).migrated("identity")


@pytest.mark.parametrize("url", ["nonsense", "http://host:1/", "postgresql://host:port/x", "postgresql:///x"])
def test_an_address_that_is_none_is_refused_with_an_example(secrets: Secrets, url: str) -> None:
    with pytest.raises(StackError, match="should look like postgresql://"):
        Addresses(secrets, {}, {"SAMPAN_POSTGRES_URL": url}).socket("postgres")


def test_roles_are_made_from_verifiers_that_fit_their_passwords() -> None:
    password = "correct"
    statement = bootstrap.role_statements(
        "identity", {"identity": password, "identity_owner": "x"}, frozenset()
    )
    assert not [line for line in statement if password in line]
    salt = b"0123456789abcdef"
    _, salted, keys = bootstrap.scram_verifier(password, salt).split("$")
    iterations, _ = salted.split(":")
    secret = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, int(iterations))
    stored = hashlib.sha256(hmac.digest(secret, b"Client Key", "sha256")).digest()
    assert keys.split(":")[0] == base64.b64encode(stored).decode()


def test_existing_roles_are_mended_instead_of_made() -> None:
    passwords = {"identity": "a", "identity_owner": "b"}
    lines = bootstrap.role_statements("identity", passwords, frozenset({"identity"}))
    assert any(line.startswith('ALTER ROLE "identity" LOGIN') for line in lines)
    assert any(line.startswith('CREATE ROLE "identity_owner" LOGIN') for line in lines)


@pytest.mark.parametrize("port", ["0", "65536", "http", "-1"])
def test_an_edge_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(StackError, match="from 1 to 65535"):
        assert Edge({"SAMPAN_EDGE_PORT": port}).port


def test_load_tests_raise_the_edges_guard_with_the_services_limits() -> None:
    assert Edge({"SAMPAN_RATE_LIMIT_SCALE": "10"}).flood_per_second() == 50_000


def test_postgres_comes_with_the_tools_that_commands_use() -> None:
    assert all((postgres_programs() / name).exists() for name in ("initdb", "postgres", "psql"))
