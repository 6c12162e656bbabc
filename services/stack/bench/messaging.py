"""The suite `messaging`: what a message costs, to write and to deliver, and what a listener costs."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import median
from urllib.parse import urlsplit

import asyncpg
import grpc

from sampan.messaging.v1 import frame_pb2, message_pb2
from sampan.messaging.v1 import messaging_service_pb2 as api
from sampan.messaging.v1.messaging_service_pb2_grpc import MessagingServiceStub
from services.stack.bench.at_once import deliveries
from services.stack.bench.measuring import Case, Effort, Tell, chosen, interleaved
from services.stack.bench.rig import PEOPLE, People, Rig
from services.stack.bench.statistics import Figure, Round, rate_figure
from services.stack.bench.wire import STAMP, Target, grpc_message
from services.stack.topology import SERVICES

SERVICE = "sampan.messaging.v1.MessagingService"
SEND, SUBSCRIBE, CONNECT = (f"/{SERVICE}/{name}" for name in ("SendMessage", "Subscribe", "Connect"))
CHAT, POSTGRES, EDGE = "chat", "postgres", "envoy"
# A line as people write it.
WORDS = " Are you there? The boat leaves from the pier at half past six, bring the durian."
# Messages of one connection that are not yet answered.
PIPELINED = 8
# Listeners by figure: people, each with a connection, and streams on each.
AUDIENCES = {"fanout_1": (1, 1), "fanout_100": (5, 20), "fanout_1000": (25, 40)}
STREAMS_PER_CONNECTION = 100
MILLION = 1_000_000
DELIVERY, AMONG_MILLION = "messaging.delivery_1000_at_once", "messaging.send_among_million"
SOCKETS = f"{DELIVERY}_websocket"


@dataclass(frozen=True, slots=True)
class Cast:
    """Who does what: callers, talkers with a stream both ways, an audience, and one who only writes to it.

    Nobody does two things: what one writes also comes to one's own streams.
    """

    callers: People
    talkers: People
    speaker: People
    audiences: Mapping[str, People]
    # Groups of the speaker and an audience.
    halls: Mapping[str, str]
    # In the order of the people: dialogs of a caller or talker with somebody who has no stream, and of each
    # talker with the next one.
    caller_dialogs: tuple[str, ...]
    talker_dialogs: tuple[str, ...]
    ring_dialogs: tuple[str, ...]


def messaging(rig: Rig, effort: Effort, tell: Tell) -> list[Figure]:
    """Writing against the same chain with an empty method, delivery against bare writes to streams."""
    tell("registers people and makes their dialogs")
    cast = asyncio.run(invite(rig))
    chain_echo = rig.probe()
    unary = Case("messaging.send_unary", unary_target(rig, cast), (CHAT, POSTGRES), limit="chain_echo")
    echo = Case("chain_echo", chain_echo, ("probe",))
    figures = million(rig, effort, tell, unary, echo) if effort.wants_long(AMONG_MILLION) else []
    few = [unary.sparse(), echo.sparse()]
    cases = [unary, echo, *few, connect_case(rig, cast, effort), *fan_out_cases(rig, cast)]
    figures += rates(rig, chosen(cases, effort, {}), effort, tell)
    figures += deliveries(rig, at_once_targets(rig, cast, effort), effort, tell)
    return figures + idle_streams(rig, cast, effort, tell)


def rates(rig: Rig, cases: list[Case], effort: Effort, tell: Tell) -> list[Figure]:
    """What goes on for a while, round by round."""
    if not cases:
        return []
    rounds, usage = interleaved(rig, cases, effort, tell)
    figures = []
    for case in cases:
        figure = rate_figure(
            "messaging",
            case.name,
            rounds[case.name],
            limit_name=case.limit,
            limits=rounds.get(case.limit, ()),
            processes=usage[case.name],
        )
        figures.append(
            replace(figure, unit="deliveries/s") if case.load and "fanout" in case.name else figure
        )
    return figures


async def invite(rig: Rig) -> Cast:
    """Registers people and makes their dialogs."""
    listeners = sum(count for count, _ in AUDIENCES.values())
    people = await asyncio.to_thread(rig.newcomers, PEOPLE + 2 + listeners)
    talkers, speaker, silent = (
        some(people, 0, PEOPLE),
        some(people, PEOPLE, PEOPLE + 1),
        people.ids[PEOPLE + 1],
    )
    audiences, first = {}, PEOPLE + 2
    for name, (count, _) in AUDIENCES.items():
        audiences[name] = some(people, first, first + count)
        first += count
    async with rig.channel("messaging") as channel:
        make = Dialogs(channel)
        ring = [*talkers.ids[1:], talkers.ids[0]]
        return Cast(
            callers=rig.people,
            talkers=talkers,
            speaker=speaker,
            audiences=audiences,
            halls={name: await make.group(speaker, one.ids) for name, one in audiences.items()},
            caller_dialogs=await make.each(rig.people, [silent] * PEOPLE),
            talker_dialogs=await make.each(talkers, [silent] * PEOPLE),
            ring_dialogs=await make.each(talkers, ring),
        )


def some(people: People, first: int, end: int) -> People:
    """Some of them."""
    return People(people.tokens[first:end], people.ids[first:end])


class Dialogs:
    """Makes dialogs in people's names."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = MessagingServiceStub(channel)

    async def each(self, people: People, others: Sequence[str]) -> tuple[str, ...]:
        """One of each with somebody."""
        return tuple(
            [
                await self._make(token, api.CreateDialogRequest(participants=[other]))
                for token, other in zip(people.tokens, others, strict=True)
            ]
        )

    async def group(self, owner: People, others: Sequence[str]) -> str:
        """One of all."""
        request = api.CreateDialogRequest(participants=others, title="Hall", kind="group")
        return await self._make(owner.tokens[0], request)

    async def _make(self, token: str, request: api.CreateDialogRequest) -> str:
        metadata = (("authorization", f"Bearer {token}"),)
        return (await self._stub.CreateDialog(request, metadata=metadata, timeout=20)).id


def content() -> message_pb2.Content:
    """What is said; the loader puts in when."""
    return message_pb2.Content(text=f"@@bench:{STAMP.decode()}{WORDS}")


def unary_message(dialog_id: str) -> bytes:
    """A SendMessage, ready to be sent but for its stamp."""
    request = api.SendMessageRequest(dialog_id=dialog_id, content=content(), client_message_id=STAMP.decode())
    # The stamp is not allowed there, what takes its place is.
    return grpc_message(request.SerializeToString())


def connect_message(dialog_id: str) -> bytes:
    """The same as a frame of Connect, whose reply tells when it was sent."""
    send = frame_pb2.Send(dialog_id=dialog_id, content=content(), client_message_id=STAMP.decode())
    frame = frame_pb2.ConnectRequest(ref=f"@@reply:{STAMP.decode()}", send=send)
    return grpc_message(frame.SerializeToString())


def straight(rig: Rig, name: str, path: str, message: bytes, people: People) -> Target:
    """A call straight to messaging."""
    return rig.mesh_target(name, "messaging", rig.service_address("messaging"), path, message, people)


def unary_target(rig: Rig, cast: Cast) -> Target:
    """Each caller into their own dialog."""
    plain = straight(rig, "messaging.send_unary", SEND, b"", cast.callers)
    return replace(plain, bodies=tuple(unary_message(one) for one in cast.caller_dialogs))


def talking(rig: Rig, name: str, cast: Cast, dialogs: Sequence[str]) -> Target:
    """Each talker over a stream of Connect into their own dialog."""
    hello = grpc_message(frame_pb2.ConnectRequest(hello=frame_pb2.Hello()).SerializeToString())
    plain = straight(rig, name, CONNECT, hello, cast.talkers)
    return replace(plain, held=True, messages=tuple(connect_message(one) for one in dialogs))


def connect_case(rig: Rig, cast: Cast, effort: Effort) -> Case:
    """Messages over streams, several of each on the way."""
    target = talking(rig, "messaging.send_connect", cast, cast.talker_dialogs)

    def load(seconds: float) -> Round:
        return rig.loader.run(
            target, seconds=seconds, connections=effort.connections, in_flight=effort.connections * PIPELINED
        )[0]

    return Case(target.name, target, (CHAT, POSTGRES), limit="chain_echo", load=load)


def fan_out_cases(rig: Rig, cast: Cast) -> list[Case]:
    """Audiences of three sizes, each in a dialog of its own, and the bare server with the largest."""
    listen, tick = rig.writes()
    sizes = AUDIENCES["fanout_1000"]
    cases = [fan_out_case(rig, "stream_writes", listen, tick, ("writes",), sizes)]
    for name, sizes in AUDIENCES.items():
        full = f"messaging.{name}"
        hear = straight(rig, f"{full}.listen", SUBSCRIBE, grpc_message(b""), cast.audiences[name])
        say = straight(rig, f"{full}.send", SEND, unary_message(cast.halls[name]), cast.speaker)
        cases.append(fan_out_case(rig, full, hear, say, (CHAT, POSTGRES), sizes, limit="stream_writes"))
    return cases


def fan_out_case(
    rig: Rig,
    name: str,
    listen: Target,
    send: Target,
    servers: tuple[str, ...],
    sizes: tuple[int, int],
    *,
    limit: str = "",
) -> Case:
    """Deliveries to so many."""
    connections, streams = sizes

    def load(seconds: float) -> Round:
        found, _ = rig.loader.round(
            "fan_out",
            {"listen": listen, "send": send},
            seconds=seconds,
            connections=connections,
            streams=streams,
            outstanding=8 if connections * streams > 1 else 32,
        )
        return found

    return Case(name, send, servers, limit=limit, load=load)


def at_once_targets(rig: Rig, cast: Cast, effort: Effort) -> list[Target]:
    """Two doors: streams of Connect straight to chat, and WebSockets through the edge."""
    straight_in = talking(rig, DELIVERY, cast, cast.ring_dialogs)
    found = [straight_in] if effort.wants(DELIVERY) else []
    path = SERVICES["messaging"].websocket
    if path and effort.wants(SOCKETS):
        door = rig.rest_target(SOCKETS, urlsplit(rig.state.edge).netloc, path)
        found.append(replace(door, tokens=cast.talkers.tokens, messages=straight_in.messages))
    return found


def idle_streams(rig: Rig, cast: Cast, effort: Effort, tell: Tell) -> list[Figure]:
    """Memory that an open stream takes in chat and in the edge while nothing happens."""
    subscribe = rig.edge_target("messaging.idle", SUBSCRIBE, grpc_message(b""), cast.callers)
    figures = []
    for count in effort.idle_streams:
        name = f"messaging.idle_{count}"
        if effort.wants(*named(name)):
            tell(f"opens {count} streams through the edge")
            connections = -(-count // STREAMS_PER_CONNECTION)
            how = {"connections": connections, "streams": STREAMS_PER_CONNECTION}
            figures += held(rig, "hold", replace(subscribe, name=name), count, how)
    count, path = effort.idle_websockets, SERVICES["messaging"].websocket
    name = f"messaging.idle_websocket_{count}"
    if count and path and effort.wants(*named(name)):
        tell(f"opens {count} WebSockets through the edge")
        target = rig.rest_target(name, urlsplit(rig.state.edge).netloc, path)
        figures += held(rig, "hold_websockets", target, count, {"connections": count})
    return figures


def named(name: str) -> tuple[str, ...]:
    """The figures of idle streams, one for each process."""
    return tuple(f"{name}.{process}" for process in (CHAT, EDGE))


def held(rig: Rig, what: str, target: Target, count: int, how: Mapping[str, float]) -> list[Figure]:
    """KiB of each process for each of so many."""
    rig.renew((CHAT, EDGE))
    before = rig.meter.pss((CHAT, EDGE))
    rig.loader.hold(what, target, **how)
    after = rig.meter.pss((CHAT, EDGE))
    rig.loader.release(target)
    return [
        Figure("messaging", name, (after[process] - before[process]) / count / 1024, "KiB/stream")
        for name, process in zip(named(target.name), (CHAT, EDGE), strict=True)
    ]


def million(rig: Rig, effort: Effort, tell: Tell, unary: Case, echo: Case) -> list[Figure]:
    """What a send costs among a million messages, as a multiple of what it costs in an empty table."""
    if not rig.private:
        tell("leaves out messaging.send_among_million: this stack is not the benchmark's own")
        return []
    tell("measures sending into an empty table")
    empty = cost(rig, effort, tell, unary, echo)
    tell("writes a million messages")
    asyncio.run(fill(rig.database("messaging"), rig.superuser()))
    tell("measures sending into a full one")
    full = cost(rig, effort, tell, unary, echo)
    return [Figure("messaging", AMONG_MILLION, full / empty, "x of empty", target=1.1)]


def cost(rig: Rig, effort: Effort, tell: Tell, unary: Case, echo: Case) -> float:
    """A send in empty calls of the same rounds."""
    rounds, _ = interleaved(rig, [unary, echo], effort, tell)
    return median(
        limit.rate / ours.rate for ours, limit in zip(rounds[unary.name], rounds[echo.name], strict=True)
    )


async def fill(url: str, superuser: str) -> None:
    """A thousand dialogs of a thousand messages. Afterwards the server has nothing left to do about them."""
    connection = await asyncpg.connect(url)
    try:
        async with connection.transaction():
            await connection.execute(_FILL_DIALOGS)
            await connection.execute(_FILL_MESSAGES, MILLION // 1000)
            await connection.execute(_FILL_RELAYED)
        await connection.execute("VACUUM (ANALYZE) dialogs, messages, relayed")
    finally:
        await connection.close()
    connection = await asyncpg.connect(superuser)
    try:
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


_FILL_DIALOGS = """
INSERT INTO dialogs (id, kind, created_by, seq, message_no, member_count, created_at, active_at)
SELECT gen_random_uuid(), 2, gen_random_uuid(), 1000, 1000, 2, now(), now() FROM generate_series(1, 1000)
"""
# Nobody is to be told of them.
_FILL_RELAYED = "INSERT INTO relayed (dialog_id, seq) SELECT id, seq FROM dialogs ON CONFLICT DO NOTHING"
_FILL_MESSAGES = """
INSERT INTO messages
  (dialog_id, seq, message_no, sender_id, client_message_id, type, text, request_hash, created_at)
SELECT id, n, n, created_by, 'filled-' || n, 'text', 'One of very many messages, as they are', '\\x00', now()
FROM dialogs, generate_series(1, $1::int) AS n WHERE kind = 2 AND seq = 1000
"""
