"""The edge's routes of live delivery, as data: the WebSocket, and server-sent events."""

from __future__ import annotations

import socket
from dataclasses import replace
from typing import Any

from envoy.generate import build
from envoy.routes import BUFFER_FILTER, GRPC_WEB_FILTER, JWT_FILTER, TRANSCODER_FILTER
from envoy.settings import WebSockets
from tests.unit.test_edge_config import SETTINGS, routes, upstream

SOCKETS = upstream("messaging_websocket", ())
LIVE = replace(SETTINGS, websockets=(WebSockets("/websocket", SOCKETS),))


def named(text: str) -> dict[str, Any]:
    (found,) = (route for route in routes(LIVE) if text in route["name"])
    return found


def test_the_websocket_needs_a_token_and_is_left_alone_by_what_reads_bodies() -> None:
    route = named("messaging_websocket /websocket")
    config = route["typed_per_filter_config"]
    assert route["match"]["path"] == "/websocket"
    assert route["route"]["upgrade_configs"] == [{"upgrade_type": "websocket"}]
    assert route["route"]["timeout"] == "0s"
    assert JWT_FILTER not in config
    assert all(config[name]["disabled"] for name in (BUFFER_FILTER, TRANSCODER_FILTER, GRPC_WEB_FILTER))


def test_websockets_have_a_cluster_of_their_own_over_http_1_and_mtls() -> None:
    clusters = build(LIVE)["static_resources"]["clusters"]
    (found,) = (one for one in clusters if one["name"] == "messaging_websocket")
    context = found["transport_socket"]["typed_config"]["common_tls_context"]
    assert context["alpn_protocols"] == ["http/1.1"]
    assert found["health_checks"][0]["http_health_check"] == {"path": "/healthz"}


def test_events_are_server_sent_for_who_accepts_them_and_come_before_lines() -> None:
    names = [route["name"] for route in routes(LIVE) if " GET /v1/events" in route["name"]]
    assert [name.endswith(" events") for name in names] == [True, False]
    route = named("GET /v1/events events")
    options = route["typed_per_filter_config"][TRANSCODER_FILTER]["print_options"]
    assert options["stream_sse_style_delimited"] is True
    assert "stream_newline_delimited" not in options


def test_live_streams_are_not_cut_off_while_nothing_moves_on_them() -> None:
    live = ("MessagingService.Subscribe", "MessagingService.Connect", "messaging_websocket")
    found = [route for route in routes(LIVE) if any(name in route["name"] for name in live)]
    assert len(found) == 5
    assert all(route["route"]["idle_timeout"] == "0s" for route in found)
    other = next(route for route in routes(LIVE) if route["name"].endswith("MessagingService.SendMessage"))
    assert other["route"]["idle_timeout"] != "0s"


def test_who_takes_no_byte_is_given_up_as_late_as_the_setting_says() -> None:
    options = build(replace(SETTINGS, keepalive_seconds=20, patience_seconds=7))["static_resources"]
    values = {option["name"]: option["int_value"] for option in options["listeners"][0]["socket_options"]}
    assert values[socket.TCP_USER_TIMEOUT] == 7_000
    assert values[socket.TCP_KEEPIDLE] == 20
