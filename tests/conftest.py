"""Fixtures for all tests: one private stack a run, a cloned database a module."""

from __future__ import annotations

import asyncio
import fcntl
import gc
import os
import shutil
import tempfile
import uuid
from collections.abc import AsyncIterator, Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hypothesis
import pytest
import uvloop
from xdist.scheduler import LoadFileScheduling

from services.mesh.app import App
from services.mesh.settings import MeshSettings
from services.stack.pki import Pki
from tests.support import databases, doors
from tests.support import stack as stacks
from tests.support.chat import Recorder
from tests.support.clients import Clients
from tests.support.mesh import Minter, make_pki, serving
from tests.support.redis import own_redis
from tests.support.replicas import playing
from tests.support.stack import Stack
from tests.support.workspace import MESSAGING, QUICK, MessagingPlayed

RUN = "SAMPAN_TEST_RUN"
# Files that share a stack of their own, which is made once if one process runs them one after the other.
TOGETHER = {
    "hurt": (
        "chaos/test_bills",
        "chaos/test_chat_client",
        "chaos/test_events",
        "chaos/test_kill_between",
        "chaos/test_kill_parts",
        "chaos/test_kill_topups",
        "chaos/test_message_events",
        "chaos/test_outages",
        "chaos/test_payment_crashes",
        "chaos/test_payment_messages",
        "chaos/test_revocation",
        "chaos/test_survival",
    ),
    "talking": (
        "e2e/test_live_bad_input",
        "e2e/test_live_doors",
        "e2e/test_messages_bad_input",
        "e2e/test_payment_messages",
    ),
}
_GROUP_OF = {f"tests/{file}.py": name for name, files in TOGETHER.items() for file in files}
# What takes longest is begun first; what needs no stack is done while the first ones are made.
TURNS = ("hurt", "unit", "chaos", "e2e", "contract", "integration")
# What runs in the process of these tests is no service, or one that others show line by line: to measure it
# costs as much as it does.
UNMEASURED = ("chaos", "contract", "e2e")


def pytest_configure(config: pytest.Config) -> None:
    """The process that the run was started in makes the folder that all workers share."""
    # As processes of services have it: else a tenth of the time goes into looking for what is not there.
    gc.set_threshold(100_000, 50, 100)
    # No deadlines: a busy machine is no fault of what is tried.
    hypothesis.settings.register_profile("short", max_examples=100, deadline=None)
    hypothesis.settings.register_profile("long", max_examples=600, deadline=None)
    hypothesis.settings.load_profile("long" if config.getoption("--long") else "short")
    # What a developer has set for a stack is not meant for tests.
    for name in tuple(os.environ):
        if name.startswith("SAMPAN_") and not name.startswith("SAMPAN_TEST_"):
            del os.environ[name]
    if not hasattr(config, "workerinput"):
        os.environ[RUN] = tempfile.mkdtemp(prefix="sampan-test-")
        os.environ["GRPC_VERBOSITY"] = "ERROR"


@pytest.hookimpl(wrapper=True, trylast=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Stops the stacks before coverage is summed up: their processes write theirs at exit."""
    try:
        return (yield)
    finally:
        if not hasattr(session.config, "workerinput"):
            for port in Path(os.environ[RUN]).glob("home*.port"):
                Stack(port.with_suffix(""), int(port.read_text())).command("down")


def pytest_collection_finish(session: pytest.Session) -> None:
    """All tests and what they import stay until the end: nobody needs to look through them again."""
    gc.freeze()


def pytest_unconfigure(config: pytest.Config) -> None:
    """Removes what the run left, unless asked to keep it."""
    if hasattr(config, "workerinput"):
        return
    run = Path(os.environ.pop(RUN))
    if config.getoption("keep_homes", default=False):
        print(f"kept {run}")
    else:
        shutil.rmtree(run, ignore_errors=True)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Options of our own."""
    parser.addoption("--keep-homes", action="store_true", dest="keep_homes", help="leave the stack's files")
    parser.addoption("--long", action="store_true", help="also what takes minutes")


class ByStack(LoadFileScheduling):
    """Gives each process whole files, and those that share a stack to one."""

    def _split_scope(self, nodeid: str) -> str:
        file: str = super()._split_scope(nodeid)
        return _GROUP_OF.get(file, file)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByStack | None:
    """Who gets which tests. The long ones of a stack are too many for one process."""
    return None if config.getoption("--long") else ByStack(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Brings tests into their order. What is marked long is left out, unless asked for."""
    items.sort(key=_turn)
    for item in items:
        if item.path.parent.name in UNMEASURED:
            item.add_marker("no_cover")
    if config.getoption("--long"):
        return
    long = [item for item in items if item.get_closest_marker("long")]
    config.hook.pytest_deselected(items=long)
    items[:] = [item for item in items if item not in long]


def _turn(item: pytest.Item) -> int:
    group = _GROUP_OF.get(item.nodeid.partition("::")[0], "")
    folder = item.path.parent.name
    return TURNS.index(group if group in TURNS else folder if folder in TURNS else TURNS[-1])


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Tests run on the loop that services run on."""
    return {"uvloop": uvloop.new_event_loop}


def shared_stack(
    name: str, extra: Mapping[str, str] | None = None, *, hasty: bool = False, measured: bool = True
) -> Stack:
    """The run's stack of a name; the first who asks starts it, with more settings if it likes.

    A `hasty` one is for tests that kill no database. One that is not `measured` costs less where coverage is
    measured, and adds nothing to it.
    """
    run = Path(os.environ[RUN])
    home = run / f"home-{name}"
    with (run / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        port = run / f"{home.name}.port"
        if port.exists():
            return Stack(home, int(port.read_text()), measured=measured)
        prepare(home)
        if hasty:
            stacks.hasten(home)
        stack = stacks.start(home, extra, measured=measured)
        port.write_text(str(stack.port))
        return stack


def prepare(home: Path) -> None:
    """Makes a home as if a stack had been up in it before, from one that who asks first makes."""
    run = Path(os.environ[RUN])
    template = run / "template"
    with (run / "template.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        if not lock.read():
            stacks.make_template(template)
            lock.write("made")
    stacks.copy_template(template, home)


@contextmanager
def own_stack(name: str, extra: Mapping[str, str] | None = None, *, measured: bool = True) -> Iterator[Stack]:
    """A stack of one module, which goes with it: a dozen idle ones are more than two cores bear."""
    found = shared_stack(name, extra, measured=measured)
    try:
        yield found
    finally:
        found.command("down")
        run = Path(os.environ[RUN])
        (run / f"home-{name}.port").unlink(missing_ok=True)
        # With its logs, for who looks for what went wrong.
        found.home.rename(run / f"ended-{name}-{found.port}")


@pytest.fixture(scope="session")
def stack() -> Stack:
    """The stack that all tests of a run share; tests leave it as they found it."""
    return shared_stack("shared", hasty=True)


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    """Certificates for services that run in the test's own process."""
    return make_pki(tmp_path_factory.mktemp("pki"))


@pytest.fixture(scope="module")
async def identity_database(stack: Stack) -> AsyncIterator[databases.Clone]:
    """A migrated and empty database of identity for one module."""
    async with databases.clone(stack, "identity") as found:
        yield found


@pytest.fixture(scope="module")
async def notification_database(stack: Stack) -> AsyncIterator[databases.Clone]:
    """A migrated and empty database of notification for one module."""
    async with databases.clone(stack, "notification") as found:
        yield found


@pytest.fixture(scope="module")
async def notification(notification_database: databases.Clone, pki: Pki) -> AsyncIterator[tuple[App, str]]:
    """Notification in this process behind the production chain, with its outbox, and its address."""
    app = await databases.notification_app(notification_database, pki)
    async with serving(app) as address:
        yield app, address


@pytest.fixture(scope="module")
async def identity(
    identity_database: databases.Clone, notification: tuple[App, str], pki: Pki
) -> AsyncIterator[tuple[App, str]]:
    """Identity in this process behind the production chain, and its address. Rate limits are far off.

    Its codes go to the module's notification.
    """
    peers = {"notification": [notification[1]], "payment": ["127.0.0.1:1"]}
    mesh = MeshSettings(rate_limit_scale=10_000, peers=peers)
    app = await databases.identity_app(identity_database, pki, mesh)
    async with serving(app, mesh) as address:
        yield app, address


@pytest.fixture(scope="module")
async def profile_database(stack: Stack) -> AsyncIterator[databases.Clone]:
    """A migrated and empty database of profile for one module."""
    async with databases.clone(stack, "profile") as found:
        yield found


@pytest.fixture(scope="module")
async def profile(profile_database: databases.Clone, pki: Pki) -> AsyncIterator[tuple[App, str]]:
    """Profile in this process behind the production chain, and its address. Its keys are a Minter's."""
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": ["127.0.0.1:1"]})
    app = await databases.profile_app(profile_database, pki, mesh, Minter())
    async with serving(app, mesh) as address:
        yield app, address


@pytest.fixture(scope="module")
async def workspace_database(stack: Stack) -> AsyncIterator[databases.Clone]:
    """A migrated and empty database of workspace for one module."""
    async with databases.clone(stack, "workspace") as found:
        yield found


@pytest.fixture(scope="module")
async def messaging_played(pki: Pki) -> AsyncIterator[tuple[MessagingPlayed, str]]:
    """What the module's workspace tells messaging, and where it listens."""
    played = MessagingPlayed()
    async with serving(playing("messaging", MESSAGING, played, pki)) as address:
        yield played, address


@pytest.fixture(scope="module")
async def workspace(
    workspace_database: databases.Clone, messaging_played: tuple[MessagingPlayed, str], pki: Pki
) -> AsyncIterator[tuple[App, str]]:
    """Workspace in this process behind the production chain, and its address. Its keys are a Minter's."""
    peers = {"identity": ["127.0.0.1:1"], "messaging": [messaging_played[1]]}
    mesh = MeshSettings(rate_limit_scale=10_000, peers=peers)
    app = await databases.workspace_app(workspace_database, pki, mesh, Minter(), **QUICK)
    async with serving(app, mesh) as address:
        yield app, address


@pytest.fixture(scope="module")
async def messaging_database(stack: Stack) -> AsyncIterator[databases.Clone]:
    """A migrated and empty database of messaging for one module."""
    async with databases.clone(stack, "messaging") as found:
        yield found


@pytest.fixture(scope="module")
async def payment_database(stack: Stack) -> AsyncIterator[databases.Clone]:
    """A migrated and empty database of payment for one module."""
    async with databases.clone(stack, "payment") as found:
        yield found


@pytest.fixture(scope="module")
async def payment(payment_database: databases.Clone, pki: Pki) -> AsyncIterator[tuple[App, str]]:
    """Payment in this process behind the production chain, and its address. Its keys are a Minter's."""
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": ["127.0.0.1:1"]})
    app = await databases.payment_app(payment_database, pki, mesh, Minter())
    async with serving(app, mesh) as address:
        yield app, address


@pytest.fixture(scope="module")
async def analytics_database(stack: Stack) -> AsyncIterator[databases.Clone]:
    """A migrated and empty database of analytics for one module."""
    async with databases.clone(stack, "analytics") as found:
        yield found


@pytest.fixture(scope="module")
async def analytics(analytics_database: databases.Clone, pki: Pki) -> AsyncIterator[tuple[App, str]]:
    """Analytics in this process behind the production chain, and its address. Its keys are a Minter's."""
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": ["127.0.0.1:1"]})
    app = await databases.analytics_app(analytics_database, pki, mesh, Minter())
    async with serving(app, mesh) as address:
        yield app, address


@pytest.fixture(scope="module")
async def presence_database(stack: Stack) -> AsyncIterator[databases.Clone]:
    """A migrated and empty database of presence for one module."""
    async with databases.clone(stack, "presence") as found:
        yield found


@pytest.fixture(scope="module")
def heard() -> Recorder:
    """What the module's messaging told those who are connected."""
    return Recorder()


@pytest.fixture(scope="module")
async def messaging(
    messaging_database: databases.Clone, identity: tuple[App, str], heard: Recorder, pki: Pki
) -> AsyncIterator[tuple[App, str]]:
    """Messaging in this process behind the production chain, and its address. Its keys are a Minter's."""
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": [identity[1]]})
    app = await databases.messaging_app(messaging_database, pki, mesh, Minter(), heard)
    async with serving(app, mesh) as address:
        yield app, address


@pytest.fixture(scope="module")
async def presence(
    stack: Stack, presence_database: databases.Clone, pki: Pki, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[App, str]]:
    """Presence in this process behind the production chain, and its address. Its keys are a Minter's.

    It has a Redis of its own, and knows of no messaging.
    """
    mesh = MeshSettings(rate_limit_scale=10_000, peers={"identity": ["127.0.0.1:1"]})
    async with own_redis(tmp_path_factory.mktemp("redis"), "presence") as redis:
        urls = {"redis_url": redis.url("presence"), "nats_url": stack.addresses.nats("presence")}
        app = await databases.presence_app(presence_database, pki, mesh, Minter(), **urls)
        async with serving(app, mesh) as address:
            yield app, address


@pytest.fixture
async def clients(stack: Stack) -> AsyncIterator[Clients]:
    """Clients of every door of the shared stack, from a loopback address of their own."""
    async with Clients.of(stack) as found:
        yield found


@pytest.fixture
def rest(clients: Clients) -> doors.RestDoor:
    """The REST door."""
    return clients.rest


@pytest.fixture
def grpc_door(clients: Clients) -> doors.GrpcDoor:
    """The gRPC door."""
    return clients.grpc


@pytest.fixture
def grpc_web(clients: Clients) -> doors.GrpcWebDoor:
    """The gRPC-web door."""
    return clients.grpc_web


@pytest.fixture
def private_home(tmp_path: Path) -> Iterator[Path]:
    """A home for a stack of one test; whatever still runs there is stopped."""
    home = tmp_path / f"home-{uuid.uuid4().hex[:8]}"
    yield home
    if home.exists():
        Stack(home, 0).command("down")
