"""docker-compose.yml runs the topology: every process, every dependency healthy first, nobody as root."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from services.mesh.channels import target
from services.stack import compose, container
from services.stack.paths import ROOT
from services.stack.topology import EDGE, PROCESSES, SERVERS, SERVICES

ONCE = {"init", "migrate"}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / compose.FILE).read_text())["services"]
    return found


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `init` makes."""
    path = tmp_path_factory.mktemp("volume")
    container.initialise(path, {})
    return path


def test_it_is_what_the_topology_says(services: dict[str, Any]) -> None:
    assert set(services) == {*SERVERS, EDGE, *(process.name for process in PROCESSES), *ONCE}
    assert yaml.safe_load((ROOT / compose.FILE).read_text()) == compose.document()
    for process in PROCESSES:
        assert services[process.name]["command"] == ["run", process.name]
        assert services[process.name]["deploy"]["replicas"] == process.replicas


def test_nobody_is_root_and_everybody_says_how_they_are(services: dict[str, Any]) -> None:
    for name, one in services.items():
        assert one["user"].split(":")[0] not in ("", "0", "root"), name
        assert one["cap_drop"] == ["ALL"]
        assert one["read_only"]
        assert ("healthcheck" in one) == (name not in ONCE), name
        assert "ports" not in one or name == EDGE


def test_whoever_depends_waits_until_it_is_healthy(services: dict[str, Any]) -> None:
    for name, one in services.items():
        for other, how in one.get("depends_on", {}).items():
            wanted = "service_completed_successfully" if other in ONCE else "service_healthy"
            assert how["condition"] == wanted, (name, other)
    assert set(services[EDGE]["depends_on"]) == {process.name for process in PROCESSES}


def test_images_are_official_and_pinned(services: dict[str, Any]) -> None:
    for name, one in services.items():
        assert one["image"] == compose.IMAGES.get(name, compose.OURS)
        assert ":" in one["image"]


def test_no_secret_stands_in_it(services: dict[str, Any]) -> None:
    for one in services.values():
        for key, value in one.get("environment", {}).items():
            assert not any(word in key for word in ("KEY", "TOKEN", "SECRET"))
            assert "PASSWORD" not in key or key.endswith("_FILE")
            assert "://" not in value


def test_each_sees_its_own_folder_only(services: dict[str, Any]) -> None:
    for name, one in services.items():
        for mount in one.get("volumes", ()):
            if isinstance(mount, dict) and mount["source"] == "state":
                assert mount["volume"]["subpath"] == ("root" if name == "migrate" else name)


def test_a_process_gets_the_secrets_of_its_own_services(volume: Path) -> None:
    for process in PROCESSES:
        text = (volume / process.name / "environment.json").read_text()
        told = json.loads(text)
        for service in SERVICES:
            own = service in process.services
            assert (f"SAMPAN_{service.upper()}_TLS_KEY" in told) == own
            assert (f"//{service}:" in text) == own
        assert "postgresql://postgres:" not in text
        assert set(json.loads(told["SAMPAN_PEERS"])) == set(SERVICES)
        assert json.loads(told["SAMPAN_PARTS"])["postgres"] == ["postgres", 5432]


def test_the_edge_finds_every_container(volume: Path) -> None:
    edge = yaml.safe_load((volume / "envoy" / "envoy.yaml").read_text())
    named = {cluster["name"]: cluster for cluster in edge["static_resources"]["clusters"]}
    for name, service in SERVICES.items():
        if service.public:
            text = json.dumps(named[name]["load_assignment"])
            assert f'"address": "{container.host_of(name)}"' in text
            assert named[name]["type"] == "STRICT_DNS"
    assert str(volume / "envoy" / "edge.yaml") in (volume / "envoy" / "envoy.yaml").read_text()
    assert str(volume / "envoy" / "edge.key") in (volume / "envoy" / "edge.yaml").read_text()


def test_what_is_made_is_private_and_made_once(volume: Path) -> None:
    before = {path: path.read_bytes() for path in volume.rglob("*") if path.is_file()}
    container.initialise(volume, {})
    assert {path: path.read_bytes() for path in before} == before
    assert not any(path.stat().st_mode & 0o077 for path in before if path.suffix != ".binpb")


@pytest.mark.parametrize(
    ("addresses", "wanted"),
    [
        (["127.0.0.1:1"], "ipv4:127.0.0.1:1"),
        (["10.0.0.1:1", "10.0.0.2:1"], "ipv4:10.0.0.1:1,10.0.0.2:1"),
        (["people:7001"], "dns:///people:7001"),
    ],
)
def test_a_name_is_looked_up_and_a_number_is_not(addresses: list[str], wanted: str) -> None:
    assert target(addresses) == wanted


def test_the_image_is_not_root_s() -> None:
    lines = (ROOT / "Dockerfile").read_text().splitlines()
    assert sum(line.startswith("FROM ") for line in lines) == 2
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001:10001"]
