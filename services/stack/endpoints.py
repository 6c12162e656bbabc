"""Where a stack tells its metrics, and how a Prometheus is pointed there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from services.stack.errors import StackError
from services.stack.home import State
from services.stack.ports import LOOPBACK
from services.stack.service_parts import chosen, metrics_key
from services.stack.topology import EDGE

ADMIN = "envoy/admin"
# Without what nobody has used yet: most of what Envoy could count stays zero for ever.
EDGE_PATH, EDGE_QUERY = "/stats/prometheus", "usedonly"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One address to scrape."""

    part: str
    port: int
    path: str
    query: str = ""

    @property
    def address(self) -> str:
        return f"{LOOPBACK}:{self.port}"

    @property
    def url(self) -> str:
        return f"http://{self.address}{self.path}" + (f"?{self.query}" if self.query else "")


def endpoints(state: State, environment: Mapping[str, str]) -> list[Endpoint]:
    """All of a stack: each process of services, then the edge. Raises StackError before the first start."""
    parts = [part for process in chosen(environment) for part in process.parts]
    keys = {part: metrics_key(part) for part in parts}
    if any(key not in state.ports for key in (*keys.values(), ADMIN)):
        raise StackError("metrics", "has no address yet", "Run ./scripts/up first.")
    services = [Endpoint(part, state.ports[key], "/metrics") for part, key in keys.items()]
    return [*services, Endpoint(EDGE, state.ports[ADMIN], EDGE_PATH, EDGE_QUERY)]


def scrape_config(found: Sequence[Endpoint]) -> dict[str, Any]:
    """What belongs into prometheus.yml; exemplars need `--enable-feature=exemplar-storage` there."""
    jobs = []
    for path in dict.fromkeys(one.path for one in found):
        here = [one for one in found if one.path == path]
        query = {"params": {here[0].query: [""]}} if here[0].query else {}
        jobs.append(
            {
                "job_name": "sampan-edge" if here[0].part == EDGE else "sampan",
                "metrics_path": path,
                **query,
                "static_configs": [{"targets": [one.address], "labels": {"part": one.part}} for one in here],
            }
        )
    return {"scrape_configs": jobs}
