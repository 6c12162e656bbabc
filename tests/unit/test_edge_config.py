"""The edge's configuration, as data: what is routed, and by whom."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from google.api import annotations_pb2
from google.protobuf import descriptor_pb2

from envoy.contract import Binding, read_methods
from envoy.generate import EdgeSettings, Upstream, build, render, render_secret
from envoy.local_replies import causes
from envoy.routes import BUFFER_FILTER, JWT_FILTER, LUA_FILTER, NOWHERE, TRANSCODER_FILTER
from envoy.settings import Collector
from sampan.options.v1 import policy_pb2
from services.stack.paths import ROOT
from services.stack.topology import SERVICES

DESCRIPTORS = ROOT / "gen" / "descriptors.binpb"
PROBE = "sampan.probe.v1.ProbeService"
Config = dict[str, Any]


def upstream(name: str, public: tuple[str, ...], host: str = "127.0.0.1") -> Upstream:
    return Upstream(name, public, ((host, 7001), (host, 7002)), f"{name}.sampan.internal")


SETTINGS = EdgeSettings(
    listen_host="127.0.0.1",
    listen_port=7000,
    admin_host="127.0.0.1",
    admin_port=7009,
    descriptors=DESCRIPTORS,
    upstreams=tuple(upstream(service.name, service.public) for service in SERVICES.values()),
    reflection=upstream("reflection", ()),
    ca_file=Path("ca.pem"),
    cert_file=Path("edge.pem"),
    key_file=Path("edge.key"),
    secret_file=Path("edge.yaml"),
)
WITH_PROBE = replace(SETTINGS, upstreams=(*SETTINGS.upstreams, upstream("probe", (PROBE,))))


@cache
def manager(settings: EdgeSettings = SETTINGS) -> Config:
    """Built once for all tests, which only read it."""
    listener = build(settings)["static_resources"]["listeners"][0]
    filters = listener["filter_chains"][0]["filters"]
    config: Config = filters[0]["typed_config"]
    return config


def routes(settings: EdgeSettings = SETTINGS) -> list[Config]:
    found: list[Config] = manager(settings)["route_config"]["virtual_hosts"][0]["routes"]
    return found


def route_for(verb: str, path: str, settings: EdgeSettings = SETTINGS) -> Config:
    """The first route that matches, as Envoy reads them."""
    return next(route for route in routes(settings) if matches(route["match"], verb, path))


def matches(match: Config, verb: str, path: str) -> bool:
    # Of headers only the verb; who asks for server-sent events goes by test_edge_live.py.
    if any(header["string_match"].get("exact") != verb for header in match.get("headers", ())):
        return False
    if "path" in match:
        return bool(match["path"] == path)
    if "safe_regex" in match:
        return re.fullmatch(match["safe_regex"]["regex"], path) is not None
    return "prefix" in match and path.startswith(match["prefix"])


def http_filter(name: str, settings: EdgeSettings = SETTINGS) -> Config:
    found = next(each for each in manager(settings)["http_filters"] if each["name"] == name)
    config: Config = found["typed_config"]
    return config


def contract_methods(services: set[str]) -> dict[str, descriptor_pb2.MethodDescriptorProto]:
    """Methods as the contract has them, by gRPC path; read apart from the code under test."""
    files = descriptor_pb2.FileDescriptorSet.FromString(DESCRIPTORS.read_bytes()).file
    return {
        f"/{file.package}.{service.name}/{method.name}": method
        for file in files
        for service in file.service
        for method in service.method
        if f"{file.package}.{service.name}" in services
    }


def policy(method: descriptor_pb2.MethodDescriptorProto) -> policy_pb2.Policy:
    found: policy_pb2.Policy = method.options.Extensions[policy_pb2.policy]
    return found


PUBLIC = contract_methods({name for service in SERVICES.values() for name in service.public})
BINDINGS = [
    (path, rule)
    for path, method in PUBLIC.items()
    for http in [method.options.Extensions[annotations_pb2.http]]
    for rule in (http, *http.additional_bindings)
    if rule.WhichOneof("pattern")
]
# A stream lasts as long as both sides like.
UNARY = [path for path, method in PUBLIC.items() if not method.server_streaming]


@pytest.mark.parametrize("path", UNARY)
def test_public_method_reaches_its_service_within_its_deadline(path: str) -> None:
    route = route_for("POST", path)
    owner = next(service.name for service in SERVICES.values() if path.split("/")[1] in service.public)
    assert route["route"]["cluster"] == owner
    added = route["request_headers_to_add"][0]
    assert added["append_action"] == "ADD_IF_ABSENT"
    assert added["header"]["value"] == f"{policy(PUBLIC[path]).deadline.seconds}S"
    assert float(route["route"]["timeout"].rstrip("s")) > policy(PUBLIC[path]).deadline.seconds


@pytest.mark.parametrize("path", PUBLIC)
def test_token_is_needed_unless_the_contract_says_public(path: str) -> None:
    opened = JWT_FILTER in route_for("POST", path)["typed_per_filter_config"]
    assert opened == (policy(PUBLIC[path]).access == policy_pb2.ACCESS_PUBLIC)


def test_token_rule_fails_closed() -> None:
    assert http_filter(JWT_FILTER)["rules"] == [
        {"match": {"prefix": "/"}, "requires": {"provider_name": "sampan"}}
    ]


@pytest.mark.parametrize(("path", "rule"), BINDINGS)
def test_rest_binding_is_let_through_to_the_transcoder(path: str, rule: Any) -> None:
    verb = rule.WhichOneof("pattern")
    route = route_for(verb.upper(), getattr(rule, verb))
    assert route["name"].startswith(path[1:].replace("/", "."))
    assert TRANSCODER_FILTER not in route["typed_per_filter_config"]
    as_it_comes = path.endswith("/ReceiveCallback")
    told = {"body": "json"} if rule.body and not as_it_comes else {}
    if PUBLIC[path].server_streaming:
        told["answer"] = "lines"
    assert route.get("metadata", {}).get("filter_metadata", {}).get(LUA_FILTER, {}) == told


@pytest.mark.parametrize(("path", "rule"), BINDINGS)
def test_rest_binding_with_another_verb_finds_nothing(path: str, rule: Any) -> None:
    assert path in PUBLIC
    address = getattr(rule, rule.WhichOneof("pattern"))
    assert route_for("HEAD", address)["name"] == "nothing"


def test_what_is_not_transcoded_never_reaches_a_service() -> None:
    rest = [route for route in routes() if " " in route["name"] and not route["name"].endswith(" events")]
    assert len(rest) == len(BINDINGS)
    assert all(route["route"].items() >= NOWHERE.items() for route in rest)


@pytest.mark.parametrize("method", ["Echo", "EchoPublic", "EchoService", "EchoWithoutPolicy"])
def test_probe_is_not_routed(method: str) -> None:
    assert route_for("POST", f"/{PROBE}/{method}")["name"] == "nothing"


def test_methods_for_services_and_without_policy_are_not_routed_even_in_a_public_service() -> None:
    routed = {method.name for method in read_methods(DESCRIPTORS, (PROBE,))}
    assert routed == {"Echo", "EchoPublic", "EchoAdmin", "EchoDown", "EchoUp", "EchoBoth"}
    for method in ("EchoService", "EchoWithoutPolicy"):
        assert route_for("POST", f"/{PROBE}/{method}", WITH_PROBE)["name"] == "nothing"


def test_deadline_below_a_second_is_sent_in_milliseconds() -> None:
    route = route_for("POST", f"/{PROBE}/EchoPublic", WITH_PROBE)
    assert route["request_headers_to_add"][0]["header"]["value"] == "300m"


@pytest.mark.parametrize("method", ["EchoDown", "EchoUp", "EchoBoth"])
def test_streams_have_no_time_limit_at_the_edge(method: str) -> None:
    route = route_for("POST", f"/{PROBE}/{method}", WITH_PROBE)
    assert route["route"]["timeout"] == "0s"
    assert "request_headers_to_add" not in route


def test_uploads_of_many_messages_are_not_buffered() -> None:
    config = route_for("POST", f"/{PROBE}/EchoUp", WITH_PROBE)["typed_per_filter_config"]
    assert config[BUFFER_FILTER]["disabled"] is True
    config = route_for("POST", f"/{PROBE}/EchoDown", WITH_PROBE)["typed_per_filter_config"]
    assert config[BUFFER_FILTER]["buffer"]["max_request_bytes"] == SETTINGS.max_body + 5


@pytest.mark.parametrize("path", PUBLIC)
def test_only_safe_methods_are_sent_again_after_unavailable_or_a_cut_connection(path: str) -> None:
    retry_on = route_for("POST", path)["route"]["retry_policy"]["retry_on"].split(",")
    assert {"connect-failure", "refused-stream"} <= set(retry_on)
    safe = policy(PUBLIC[path]).retry == policy_pb2.RETRY_SAFE
    assert set(retry_on) - {"connect-failure", "refused-stream"} == (
        {"unavailable", "cancelled", "reset"} if safe else set()
    )


def test_reflection_is_public_and_only_there_when_set() -> None:
    path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo"
    assert JWT_FILTER in route_for("POST", path)["typed_per_filter_config"]
    assert route_for("POST", path)["route"]["cluster"] == "reflection"
    assert route_for("POST", path, replace(SETTINGS, reflection=None))["name"] == "nothing"


def test_unknown_service_is_refused_by_name() -> None:
    settings = replace(SETTINGS, upstreams=(upstream("ghost", ("sampan.ghost.v1.GhostService",)),))
    with pytest.raises(ValueError, match=r"lacks sampan\.ghost\.v1\.GhostService"):
        build(settings)


@pytest.mark.parametrize(
    ("template", "path", "fits"),
    [
        ("/v1/things/{id}", "/v1/things/a", True),
        ("/v1/things/{id}", "/v1/things/a/b", False),
        ("/v1/things/{id}", "/v1/things/", False),
        ("/v1/purchase/{id}:payWithWallet", "/v1/purchase/7:payWithWallet", True),
        ("/v1/purchase/{id}:payWithWallet", "/v1/purchase/7", False),
        ("/v1/{name=shelves/*/books/**}", "/v1/shelves/1/books/2/3", True),
        ("/v1/{name=shelves/*/books/**}", "/v1/shelves/1/2/books/3", False),
        ("/v1/a.b", "/v1/axb", False),
        ("/v1/*/x", "/v1/y/x", True),
    ],
)
def test_path_template_becomes_a_regex_for_the_whole_path(template: str, path: str, fits: bool) -> None:
    assert (re.fullmatch(Binding("GET", template, json_body=False).regex, path) is not None) == fits


def test_narrower_paths_come_first() -> None:
    templates = ["/v1/{a=**}", "/v1/t/{id}", "/v1/t/special", "/v1/t/{id}:act", "/v1/{a}/{b}"]
    bindings = [Binding("GET", template, json_body=False) for template in templates]
    ordered = [binding.template for binding in sorted(bindings, key=lambda binding: binding.precedence)]
    assert ordered == ["/v1/t/special", "/v1/t/{id}:act", "/v1/t/{id}", "/v1/{a}/{b}", "/v1/{a=**}"]


def test_body_limit_is_one_number_in_every_place() -> None:
    settings = replace(SETTINGS, max_body=2000)
    assert http_filter(BUFFER_FILTER, settings)["max_request_bytes"] == 2000
    assert any(cause.error.detail == "the request is over 2000 bytes" for cause in causes(settings))


def test_client_cannot_say_what_only_the_mesh_may_say() -> None:
    mutations = manager()["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    names = {each["remove"] for each in mutations if "remove" in each}
    matched = [each["remove_on_match"]["key_matcher"] for each in mutations if "remove" not in each]
    assert matched == [{"prefix": "x-envoy-"}, {"prefix": "x-sampan-"}]
    assert {"x-http-code", "x-problem", "x-request-id", "x-forwarded-for"} <= names


def test_forwarded_for_is_read_only_behind_trusted_proxies() -> None:
    behind = manager(replace(SETTINGS, trusted_hops=1))
    mutations = behind["early_header_mutation_extensions"][0]["typed_config"]["mutations"]
    assert behind["xff_num_trusted_hops"] == 1
    assert {"remove": "x-forwarded-for"} not in mutations


def test_log_holds_no_query_string_and_no_headers_of_the_client() -> None:
    fields = manager()["access_log"][0]["typed_config"]["log_format"]["json_format"]
    assert fields["path"].startswith("%PATH(NQ:")
    assert "AUTHORIZATION" not in str(fields)
    logged = manager(replace(SETTINGS, access_log=Path("edge.log")))["access_log"][0]["typed_config"]
    assert logged["path"] == "edge.log"


def test_services_are_reached_over_mtls_by_name() -> None:
    cluster = build(SETTINGS)["static_resources"]["clusters"][0]
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
    names = context["validation_context"]["match_typed_subject_alt_names"]
    assert names == [{"san_type": "DNS", "matcher": {"exact": "identity.sampan.internal"}}]
    assert len(cluster["load_assignment"]["endpoints"][0]["lb_endpoints"]) == 2
    assert cluster["type"] == "STATIC"


def test_the_edge_s_own_certificate_is_read_from_a_folder_that_is_watched() -> None:
    settings = replace(SETTINGS, cert_file=Path("/pki/edge.crt"), secret_file=Path("/pki/edge.yaml"))
    cluster = build(settings)["static_resources"]["clusters"][0]
    context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
    (named,) = context["tls_certificate_sds_secret_configs"]
    assert named["sds_config"]["path_config_source"] == {"path": "/pki/edge.yaml"}
    (secret,) = yaml.safe_load(render_secret(settings))["resources"]
    assert secret["name"] == named["name"]
    assert secret["tls_certificate"]["certificate_chain"] == {"filename": "/pki/edge.crt"}
    assert secret["tls_certificate"]["watched_directory"] == {"path": "/pki"}


def test_named_hosts_are_resolved() -> None:
    settings = replace(SETTINGS, upstreams=(upstream("web", SERVICES["web"].public, host="web.internal"),))
    assert build(settings)["static_resources"]["clusters"][0]["type"] == "STRICT_DNS"


def test_keys_are_fetched_through_the_edge_itself() -> None:
    provider = http_filter(JWT_FILTER)["providers"]["sampan"]
    uri = provider["remote_jwks"]["http_uri"]
    assert route_for("GET", uri["uri"].partition(":7000")[2])["name"].startswith(
        "sampan.identity.v1.IdentityService.GetJwks"
    )
    assert provider["remote_jwks"]["async_fetch"]["fast_listener"] is True
    loopback = build(replace(SETTINGS, listen_host="0.0.0.0"))["static_resources"]["clusters"][-1]  # noqa: S104
    assert loopback["name"] == uri["cluster"]
    address = loopback["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"]
    assert address == {"socket_address": {"address": "127.0.0.1", "port_value": 7000}}


def test_tls_is_served_when_it_has_a_certificate() -> None:
    settings = replace(SETTINGS, tls_cert_file=Path("front.pem"), tls_key_file=Path("front.key"))
    resources = build(settings)["static_resources"]
    assert "transport_socket" in resources["listeners"][0]["filter_chains"][0]
    assert "transport_socket" in resources["clusters"][-1]
    assert "transport_socket" not in build(SETTINGS)["static_resources"]["listeners"][0]["filter_chains"][0]


def test_yaml_is_the_same_configuration() -> None:
    assert yaml.safe_load(render(SETTINGS)) == build(SETTINGS)


def test_no_span_is_made_where_there_is_no_collector() -> None:
    assert "tracing" not in manager()
    assert "collector" not in {cluster["name"] for cluster in build(SETTINGS)["static_resources"]["clusters"]}


def test_spans_go_to_the_collector_and_tell_no_person_and_no_query() -> None:
    settings = replace(
        SETTINGS,
        trace_percent=7,
        collector=Collector("collector.example", 4317, Path("ca.pem"), (("x-key", "k"),)),
    )
    tracing = manager(settings)["tracing"]
    assert tracing["max_path_tag_length"] == 0
    assert {tag["tag"] for tag in tracing["custom_tags"]} == {"peer.address", "user_agent"}
    provider = tracing["provider"]["typed_config"]
    assert provider["sampler"]["typed_config"]["sampling_percentage"]["numerator"] == 7
    assert provider["grpc_service"]["initial_metadata"] == [{"key": "x-key", "value": "k"}]
    clusters = {cluster["name"]: cluster for cluster in build(settings)["static_resources"]["clusters"]}
    assert clusters["collector"]["type"] == "STRICT_DNS"
    tls = clusters["collector"]["transport_socket"]["typed_config"]
    assert tls["sni"] == "collector.example"
    assert tls["common_tls_context"]["validation_context"]["trusted_ca"] == {"filename": "ca.pem"}
