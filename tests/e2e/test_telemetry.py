"""What an operator sees of a running stack: traces across all parts, figures, `sampan top`."""

from __future__ import annotations

import asyncio
import json
import os
import random
import secrets
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass

import httpx
import psutil
import pytest
import yaml
from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import prepare
from tests.support import collector as collectors
from tests.support import http as plain
from tests.support import stack as stacks
from tests.support.clients import Clients
from tests.support.collector import Collector, Span
from tests.support.mailbox import Mailbox
from tests.support.mesh import channel_as
from tests.support.stack import ROOT, Stack, free_port
from tests.support.waiting import until

SERVER, CLIENT, PRODUCER, CONSUMER = 2, 3, 4, 5
OPENMETRICS = {"accept": "application/openmetrics-text; version=1.0.0"}
GET_ME = "sampan.identity.v1.IdentityService/GetMe"


@dataclass
class World:
    """A stack whose traces are all kept, and who keeps them."""

    stack: Stack
    collector: Collector
    port: int


@pytest.fixture(scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    port = free_port()
    home = tmp_path_factory.mktemp("telemetry") / "home"
    extra = {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}", "SAMPAN_EDGE_TRACE_PERCENT": "100"}
    prepare(home)
    async with collectors.collecting(port) as (collector, _):
        stack = await asyncio.to_thread(stacks.start, home, extra)
        try:
            yield World(stack, collector, port)
        finally:
            await asyncio.to_thread(stack.command, "down")


@pytest.fixture
async def people(world: World) -> AsyncIterator[Clients]:
    async with Clients.of(world.stack) as found:
        yield found


def a_trace() -> tuple[str, str, str]:
    """A trace id, a parent's id, and the traceparent of both; that it asks not to be kept counts nothing."""
    trace, parent = secrets.token_hex(16), secrets.token_hex(8)
    return trace, parent, f"00-{trace}-{parent}-00"


async def spans_of(world: World, trace: str, *wanted: tuple[str, str]) -> list[Span]:
    """The spans of a trace, as soon as those of some services and names are among them.

    Each process tells of its own in its own time, of a span after those below it.
    """

    async def there() -> set[tuple[str, str]]:
        return {(span.service, span.name) for span in world.collector.of(trace)} & set(wanted)

    await until(there, set(wanted), within=30)
    return world.collector.of(trace)


def one(spans: list[Span], service: str, name: str, kind: int | None = None) -> Span:
    """The only span of a service that is called so."""
    (found,) = (
        span for span in spans if (span.service, span.name) == (service, name) and kind in (None, span.kind)
    )
    return found


def below(spans: list[Span], parent: Span) -> list[Span]:
    return [span for span in spans if span.parent == parent.id]


async def test_a_sign_in_by_code_is_one_trace_from_the_edge_to_the_notification(
    world: World, people: Clients
) -> None:
    number = f"+6681{random.randint(0, 9_999_999):07d}"
    address = f"127.0.0.1:{world.stack.state.ports['notification']}"

    async def sign_in(device: str, **headers: str) -> httpx.Response:
        people.http.headers["user-agent"] = device
        sent = await people.http.post(
            "/v1/auth/otp/send", json={"identifier": number, "type": "phone", "country": "TH"}
        )
        async with channel_as("operator", address, "notification", world.stack.pki) as channel:
            code = await Mailbox(channel).code(number)
        return await people.http.post(
            "/v1/auth/otp/verify",
            json={"session_id": sent.json()["session_id"], "code": code},
            headers=headers,
        )

    assert (await sign_in("first device")).status_code == 200
    trace, caller, traceparent = a_trace()
    assert (await sign_in("second device", traceparent=traceparent)).status_code == 200

    event = "sampan.identity.session.created"
    contact = "sampan.identity.v1.IdentityInternalService/GetContact"
    verify = "sampan.identity.v1.IdentityService/VerifyOtp"
    spans = await spans_of(
        world,
        trace,
        ("edge", verify.replace("/", ".")),
        ("identity", verify),
        ("identity", f"{event} publish"),
        ("identity", contact),
        ("notification", f"{event} process"),
    )

    edge = one(spans, "edge", verify.replace("/", "."))
    assert edge.parent == caller
    served = one(spans, "identity", verify)
    assert (served.parent, served.kind) == (edge.id, SERVER)
    statements = {span.name for span in below(spans, served) if span.kind == CLIENT}
    assert {"SELECT", "INSERT", "COMMIT"} <= statements
    published = one(spans, "identity", f"{event} publish")
    assert (published.parent, published.kind) == (served.id, PRODUCER)
    consumed = one(spans, "notification", f"{event} process")
    assert (consumed.parent, consumed.kind) == (published.id, CONSUMER)
    asked = one(spans, "notification", contact, CLIENT)
    assert asked.parent == consumed.id
    answered = one(spans, "identity", contact, SERVER)
    assert answered.parent == asked.id
    assert "SELECT" in {span.name for span in below(spans, answered)}
    written = [span.attributes.get("db.query.text", "") for span in below(spans, consumed)]
    assert any(text.startswith("INSERT INTO deliveries") for text in written)

    ids = {span.id for span in spans}
    assert all(span.parent in ids for span in spans if span is not edge), "no span hangs in the air"
    said = "".join(span.text for span in world.collector.spans)
    for secret in (number, number[1:], "second device", "127.0.0.1"):
        assert secret not in said.replace(f"127.0.0.1:{world.stack.port}", "")


async def test_every_door_has_its_span_at_the_edge_and_in_the_service(world: World, people: Clients) -> None:
    person = await people.register()
    headers = {"authorization": f"Bearer {person.token}"}
    for door in ("rest", "grpc_web", "grpc"):
        trace, caller, traceparent = a_trace()
        if door == "rest":
            assert (
                await people.http.get("/v1/me", headers={**headers, "traceparent": traceparent})
            ).status_code == 200
        elif door == "grpc_web":
            said = {"content-type": "application/grpc-web+proto", "x-grpc-web": "1"}
            answer = await people.http.post(
                f"/{GET_ME}", content=bytes(5), headers={**headers, **said, "traceparent": traceparent}
            )
            assert b"grpc-status:0" in answer.content
        else:
            import grpc

            async with grpc.aio.insecure_channel(f"127.0.0.1:{world.stack.port}") as channel:
                metadata = [*headers.items(), ("traceparent", traceparent)]
                await channel.unary_unary(f"/{GET_ME}")(b"", metadata=metadata, timeout=20)
        seen = (("edge", GET_ME.replace("/", ".")), ("identity", GET_ME), ("identity", "shared read"))
        spans = await spans_of(world, trace, *seen)
        edge = one(spans, "edge", GET_ME.replace("/", "."))
        assert edge.parent == caller
        assert one(spans, "identity", GET_ME).parent == edge.id


async def test_a_problem_a_log_line_and_a_trace_have_one_id(world: World, people: Clients) -> None:
    refused = await people.rest.call(
        "POST", "/v1/auth/login", {"username": "nobody", "password": "wrong word"}
    )
    trace = refused.body["trace_id"]
    login = "sampan.identity.v1.IdentityService/Login"
    spans = await spans_of(world, trace, ("identity", login), ("edge", login.replace("/", ".")))
    assert one(spans, "identity", login).attributes["sampan.reason"] == "INVALID_CREDENTIALS"
    assert not one(spans, "identity", login).failed, "the caller's fault is no fault of ours"

    async def logged() -> list[str]:
        logs = world.stack.home / "logs"
        return [part for part in ("people", "envoy") if trace in (logs / f"{part}.log").read_text()]

    await until(logged, ["people", "envoy"], within=20)

    unrouted = await people.rest.call("GET", "/v1/me")
    assert unrouted.code == 401
    await spans_of(world, unrouted.body["trace_id"], ("edge", GET_ME.replace("/", ".")))


def endpoint(world: World, part: str) -> str:
    done = world.stack.command("metrics", "--json")
    assert done.returncode == 0, done.stderr
    found: dict[str, str] = {each["part"]: each["url"] for each in json.loads(done.stdout)}
    return found[part]


async def scrape(url: str, openly: bool = True) -> dict[str, list[tuple[dict[str, str], float, object]]]:
    """Samples by name, as Prometheus would read them."""
    async with plain.client(timeout=10) as client:
        answer = await client.get(url, headers=OPENMETRICS if openly else {})
    assert answer.status_code == 200
    parse = openmetrics.text_string_to_metric_families if openly else text_string_to_metric_families
    found: dict[str, list[tuple[dict[str, str], float, object]]] = {}
    for family in parse(answer.text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value, sample.exemplar))
    return found


async def test_metrics_count_exactly_the_calls_that_were_made(world: World, people: Clients) -> None:
    url = endpoint(world, "people")

    async def calls(reason: str) -> float:
        found = (await scrape(url)).get("sampan_calls_total", [])
        wanted = {"service": "identity", "method": GET_ME, "reason": reason}
        return sum(value for labels, value, _ in found if labels == wanted)

    person = await people.register()
    before = await calls("OK")
    for _ in range(7):
        assert (await people.rest.call("GET", "/v1/me", token=person.token)).code == 200
    assert await calls("OK") == before + 7


async def test_metrics_tell_of_every_part_and_a_latency_points_to_its_trace(
    world: World, people: Clients
) -> None:
    person = await people.register()
    answer = await people.http.get("/v1/me", headers={"authorization": f"Bearer {person.token}"})
    assert answer.status_code == 200
    found = await scrape(endpoint(world, "people"))
    assert set(found) >= {
        "sampan_calls_in_flight",
        "sampan_event_loop_lag_seconds_count",
        "sampan_database_pool_in_use",
        "sampan_outbox_unpublished",
        "sampan_consumer_pending",
        "sampan_consumer_parked",
        "sampan_ratelimit_alone",
        "sampan_breaker_open",
        "sampan_bus_connected",
        "sampan_connections",
        "sampan_spans_total",
        "process_cpu_seconds_total",
        "process_resident_memory_bytes",
        "python_gc_collections_total",
    }
    chat = await scrape(endpoint(world, "chat"))
    assert {labels["pool"] for labels, _, _ in chat["sampan_fast_pool_in_use"]} == {
        "messaging live",
        "messaging posting",
    }
    assert {"messaging", "presence"} <= {labels["service"] for labels, _, _ in chat["sampan_bus_connected"]}
    assert set(chat) >= {
        "sampan_group_commit_queue",
        "sampan_consumer_pending",
        "sampan_relay_dialogs_behind",
    }
    exemplars = [
        exemplar.labels["trace_id"]  # type: ignore[attr-defined]
        for labels, _, exemplar in found["sampan_call_seconds_bucket"]
        if labels["method"] == GET_ME and exemplar is not None
    ]
    assert exemplars
    assert all(world.collector.of(trace) or len(trace) == 32 for trace in exemplars)
    plain = await scrape(endpoint(world, "people"), openly=False)
    assert set(plain) >= {"sampan_calls_total", "process_cpu_seconds_total"}
    edge = await scrape(endpoint(world, "envoy"), openly=False)
    assert any(
        labels.get("envoy_http_conn_manager_prefix") == "edge" and value > 0
        for labels, value, _ in edge["envoy_http_downstream_rq_total"]
    )


async def test_calls_go_on_while_the_collector_is_away_and_lost_spans_are_counted(
    world: World, people: Clients, tmp_path_factory: pytest.TempPathFactory
) -> None:
    home = tmp_path_factory.mktemp("alone") / "home"
    extra = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{free_port()}",
        "SAMPAN_EDGE_TRACE_PERCENT": "100",
    }
    prepare(home)
    stack = await asyncio.to_thread(stacks.start, home, extra, measured=False)
    try:
        async with Clients.of(stack) as alone:
            person = await alone.register()
            assert (await alone.rest.call("GET", "/v1/me", token=person.token)).code == 200
        url = endpoint(World(stack, world.collector, 0), "people")

        async def lost() -> bool:
            fates = {labels["fate"]: value for labels, value, _ in (await scrape(url))["sampan_spans_total"]}
            return fates["dropped"] > 0 and fates["exported"] == 0

        await until(lost, wanted=True, within=30)
    finally:
        await asyncio.to_thread(stack.command, "down")


def test_metrics_are_described_for_a_prometheus(world: World) -> None:
    done = world.stack.command("metrics", "--prometheus")
    jobs = {job["job_name"]: job for job in yaml.safe_load(done.stdout)["scrape_configs"]}
    parts = [one["labels"]["part"] for job in jobs.values() for one in job["static_configs"]]
    assert sorted(parts) == ["background", "chat", "envoy", "money", "people"]
    assert jobs["sampan-edge"]["metrics_path"] == "/stats/prometheus"
    assert "http://127.0.0.1:" in world.stack.command("metrics").stdout


async def test_top_shows_rates_latencies_and_parts(world: World, people: Clients) -> None:
    person = await people.register()
    watching = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.stack.cli", "top", "--once", "--json", "--interval", "3"),
        env=world.stack.environment(),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    said = asyncio.create_task(watching.communicate())
    while not said.done():
        assert (await people.rest.call("GET", "/v1/me", token=person.token)).code == 200
        # Not so fast that it is too often.
        await asyncio.wait((said,), timeout=0.05)
    found = json.loads((await said)[0])
    me = next(one for one in found["methods"] if one["method"] == GET_ME)
    assert me["rate"] > 0
    assert me["error_share"] == 0
    assert 0 < me["p50_ms"] <= me["p95_ms"] <= me["p99_ms"]
    assert found["edge"]["rate"] > 0
    assert found["edge"]["by_class"]["2xx"] > 0
    parts = {one["part"]: one for one in found["parts"]}
    assert set(parts) == {"postgres", "redis", "nats", "people", "chat", "money", "background", "envoy"}
    assert parts["people"]["pss_mib"] > 10
    drawn = world.stack.command("top", "--once", "--interval", "0.5")
    assert drawn.returncode == 0, drawn.stderr
    assert "identity.v1.IdentityService/GetMe" in drawn.stdout
    assert "RESTARTS" in drawn.stdout


async def test_top_counts_restarts(world: World) -> None:
    psutil.Process(world.stack.state.parts["background"].pid).kill()

    async def restarts() -> int:
        return world.stack.state.parts["background"].restarts

    await until(restarts, 1, within=20)
    found = json.loads(world.stack.command("top", "--once", "--json", "--interval", "0.5").stdout)
    assert {one["part"]: one["restarts"] for one in found["parts"]}["background"] == 1
    assert {one["part"]: one["restarts"] for one in found["parts"]}["people"] == 0


async def test_top_ends_on_ctrl_c(world: World) -> None:
    watching = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "services.stack.cli", "top", "--json", "--interval", "0.5"),
        env=world.stack.environment(),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert watching.stdout is not None
    assert json.loads(await watching.stdout.readline())["parts"]
    os.kill(watching.pid, signal.SIGINT)
    _, errors = await watching.communicate()
    assert watching.returncode == 130
    assert b"Traceback" not in errors


def test_top_says_that_nothing_is_up(tmp_path_factory: pytest.TempPathFactory) -> None:
    nowhere = Stack(tmp_path_factory.mktemp("nowhere") / "home", free_port())
    for command in ("top", "metrics"):
        done = nowhere.command(command)
        assert done.returncode == 1
        assert "Run ./scripts/up first." in done.stderr
