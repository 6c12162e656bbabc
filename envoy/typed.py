"""Small words of Envoy's configuration language that every part uses."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Any

Config = dict[str, Any]

EXTENSIONS = "envoy.extensions."


def typed(message: str, /, **fields: Any) -> Config:
    """A message that carries its type, as Envoy wants every extension's settings."""
    return {"@type": f"type.googleapis.com/{message}", **fields}


def extension(name: str, message: str, /, **fields: Any) -> Config:
    """An extension with its settings; `message` stands below `envoy.extensions.`."""
    return {"name": name, "typed_config": typed(EXTENSIONS + message, **fields)}


def seconds(value: float) -> str:
    """A duration as JSON wants it."""
    return f"{value:g}s"


def socket_address(host: str, port: int) -> Config:
    return {"socket_address": {"address": host, "port_value": port}}


def set_header(name: str, value: str) -> Config:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}


def discovery(hosts: Iterable[str]) -> str:
    """How a cluster finds addresses: numbers are taken as they are, names are looked up."""
    try:
        for host in hosts:
            ipaddress.ip_address(host)
    except ValueError:
        return "STRICT_DNS"
    return "STATIC"
