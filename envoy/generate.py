"""Puts the parts together: the whole configuration of one edge, as data and as YAML."""

from __future__ import annotations

import yaml

from envoy.clusters import clusters, secret
from envoy.listener import listener
from envoy.settings import EdgeSettings, Upstream
from envoy.typed import Config, extension, socket_address

__all__ = ["EdgeSettings", "Upstream", "build", "render", "render_secret"]


def build(settings: EdgeSettings) -> Config:
    """Envoy's bootstrap configuration. Reads the descriptor set and nothing else."""
    return {
        # Envoy takes no configuration of files that change without knowing who it is.
        "node": {"id": "edge", "cluster": "edge"},
        "admin": {"address": socket_address(settings.admin_host, settings.admin_port)},
        "overload_manager": {"resource_monitors": [_connection_limit(settings.max_connections)]},
        "static_resources": {"listeners": [listener(settings)], "clusters": clusters(settings)},
    }


def render(settings: EdgeSettings) -> str:
    """The same as YAML, for `envoy --config-path`."""
    return yaml.dump(build(settings), Dumper=_PlainDumper, sort_keys=False, width=110)


def render_secret(settings: EdgeSettings) -> str:
    """What belongs into `settings.secret_file`."""
    return yaml.dump({"resources": [secret(settings)]}, Dumper=_PlainDumper, sort_keys=False, width=110)


class _PlainDumper(yaml.SafeDumper):
    """Writes shared parts out in full, as a reader expects."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _connection_limit(connections: int) -> Config:
    return extension(
        "envoy.resource_monitors.global_downstream_max_connections",
        "resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
        max_active_downstream_connections=connections,
    )
