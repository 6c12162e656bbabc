"""The typed client against a server that drops, ends and forgets: nothing is lost, doubled, out of order."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import pytest

from sampan.messaging.v1 import frame_pb2
from services.client.client import ChatClient
from services.client.errors import ChatError, OrderBroken, SignedOut, StreamRefused
from services.client.live import Timing
from services.client.session import Session
from services.client.updates import (
    BegunAnew,
    Live,
    Lost,
    MessageCreated,
    Receipt,
    Typing,
    Update,
)
from services.client.websocket import over_websocket
from tests.support.chat_server import ChatServer, serving_chat
from tests.support.chat_websocket import serving_websocket
from tests.support.waiting import until

QUICK = Timing(silence=5.0, first_wait=0.01, longest_wait=0.05)


@pytest.fixture(params=["grpc", "websocket"])
async def server(request: pytest.FixtureRequest) -> AsyncIterator[ChatServer]:
    """A fresh one. Its clients have their streams over gRPC, or over a WebSocket."""
    async with serving_chat() as found, serving_websocket(found) as address:
        found.websocket = address if request.param == "websocket" else ""
        yield found


@dataclass
class Device:
    """A client, and all that it was told."""

    client: ChatClient
    told: list[Update]
    failed: list[Exception]

    def texts(self) -> list[str]:
        """Messages that came live."""
        return [one.message.text for one in self.told if isinstance(one, MessageCreated)]

    async def until_live(self, times: int = 1) -> None:
        """Waits until that many streams have caught up."""

        async def count() -> bool:
            return sum(isinstance(one, Live) for one in self.told) >= times

        await until(count, True, within=20)

    async def until_told(self, texts: list[str]) -> None:
        """Waits for messages."""

        async def found() -> list[str]:
            return self.texts()

        await until(found, texts, within=20)


@asynccontextmanager
async def device(
    server: ChatServer, username: str, *, resume: str = "", listening: bool = True, **more: object
) -> AsyncIterator[Device]:
    """A device of a person, who is registered when they are not."""
    session = Session(server.address, None, username, "durian at midnight")
    if username not in server.accounts:
        await session.register()
    await session.token()
    transport = over_websocket(server.websocket) if server.websocket else None
    options = {"timing": QUICK, "device_id": "phone", "transport": transport, **more}
    async with ChatClient(server.address, None, session, resume=resume, **options) as client:  # type: ignore[arg-type]
        found = Device(client, [], [])
        listener = asyncio.create_task(listen(found)) if listening else None
        if listener is not None:
            await found.until_live()
        try:
            yield found
        finally:
            if listener is not None:
                listener.cancel()
                await asyncio.gather(listener, return_exceptions=True)
    await session.close()


async def listen(device: Device) -> None:
    try:
        async for update in device.client.updates():
            device.told.append(update)
    except (ChatError, OrderBroken) as error:
        device.failed.append(error)


async def a_pair(server: ChatServer, *names: str) -> str:
    """Registers people and gives them a dialog."""
    for name in names:
        session = Session(server.address, None, name, "durian at midnight")
        await session.register()
        await session.close()
    return server.dialog_of(*(server.accounts[name][0] for name in names))


async def test_two_devices_talk_live(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee, device(server, "siti") as siti:
        sent = await malee.client.send(dialog, "Is the batik ready?")
        await siti.until_told(["Is the batik ready?"])
        assert (sent.dialog_id, sent.seq) == (dialog, 2)
        siti.client.typing(dialog)
        await siti.client.send(dialog, "Come by.")
        await malee.until_told(["Is the batik ready?", "Come by."])
        assert Typing(dialog, siti.client.user_id) in malee.told
        await siti.client.mark_read(sent.id)

        async def receipts() -> list[int]:
            return [one.read_seq for one in malee.told if isinstance(one, Receipt)]

        await until(receipts, [2], within=20)
        assert server.unary_sends == 0


async def test_after_a_drop_exactly_what_was_missed_comes(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    siti = server.accounts["siti"][0]
    async with device(server, "malee") as malee:
        server.say(dialog, siti, "one")
        await malee.until_told(["one"])
        server.faults.refuse_streams = 2
        server.drop()
        server.say(dialog, siti, "two")
        server.say(dialog, siti, "three")
        await malee.until_told(["one", "two", "three"])
        await malee.until_live(2)
        # What breaks off without a word says no reason over a WebSocket.
        first = "STREAM_ENDED" if server.websocket else "UNAVAILABLE"
        lost = [one.reason for one in malee.told if isinstance(one, Lost)]
        assert lost == [first, "UNAVAILABLE", "UNAVAILABLE"]
        assert server.hellos[-1].resume
        assert not malee.failed


async def test_an_end_is_heeded_with_its_time(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        server.end("DRAINING", retry_after_ms=200)
        await malee.until_live(2)
        (lost,) = (one for one in malee.told if isinstance(one, Lost))
        assert lost.reason == "DRAINING"
        assert 0.2 <= lost.retry_in <= 0.22
        server.say(dialog, server.accounts["siti"][0], "still here")
        await malee.until_told(["still here"])


async def test_an_expired_token_is_renewed_without_a_word(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        server.expire()
        server.end("TOKEN_EXPIRED")
        server.say(dialog, server.accounts["siti"][0], "meanwhile")
        await malee.until_told(["meanwhile"])
        assert not [one for one in malee.told if isinstance(one, Lost)]
        server.expire()
        assert (await malee.client.dialog(dialog)).id == dialog
        assert len(set(server.refreshes)) == 2


async def test_a_session_that_is_over_ends_updates(server: ChatServer) -> None:
    await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        server.expire()
        server.refresh.clear()
        server.end("SESSION_ENDED")

        async def failures() -> list[type]:
            return [type(one) for one in malee.failed]

        await until(failures, [SignedOut], within=20)


async def test_a_refusal_for_good_ends_updates(server: ChatServer) -> None:
    await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        server.end("TOO_MANY_STREAMS")

        async def failures() -> list[str]:
            return [f"{type(one).__name__} {one}" for one in malee.failed]

        await until(failures, [f"{StreamRefused.__name__} TOO_MANY_STREAMS: told to"], within=20)


async def test_a_position_that_is_refused_is_given_up_visibly(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee", device_id="") as malee:
        server.say(dialog, server.accounts["siti"][0], "one")
        await malee.until_told(["one"])
        server.faults.refuse_resume = "RESUME_TOKEN_INVALID"
        server.drop()
        await malee.until_live(2)
        assert BegunAnew("RESUME_TOKEN_INVALID") in malee.told
        server.say(dialog, server.accounts["siti"][0], "two")
        await malee.until_told(["one", "two"])


async def test_sends_survive_streams_that_break_before_the_answer(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        server.faults.break_after_send = 5
        texts = [f"message {number}" for number in range(40)]
        sent = await asyncio.gather(*(malee.client.send(dialog, text) for text in texts))
        assert [one.seq for one in sent] == list(range(2, 42))
        assert server.texts(dialog) == texts
        await malee.until_told(texts)
        assert not malee.failed


async def test_a_send_is_repeated_until_its_outcome_is_known(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee", listening=False) as malee:
        server.faults.lose_answers = 2
        await malee.client.send(dialog, "once")
        assert server.texts(dialog) == ["once"]
        assert server.unary_sends == 3


async def test_without_a_stream_sends_do_not_wait_for_each_other(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee", listening=False) as malee:
        # None of them is answered before all are there.
        server.faults.gather_sends = 50
        await asyncio.gather(*(malee.client.send(dialog, str(number)) for number in range(50)))
        assert sorted(server.texts(dialog), key=int) == [str(number) for number in range(50)]


async def test_while_no_stream_can_be_had_messages_go_call_by_call_in_order(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        server.faults.refuse_streams = 1_000_000
        server.drop()
        texts = [str(number) for number in range(20)]
        await asyncio.gather(*(malee.client.send(dialog, text) for text in texts))
        assert server.texts(dialog) == texts
        assert server.unary_sends == 20
        server.faults.refuse_streams = 0
        await malee.until_told(texts)


async def test_a_full_queue_is_tried_again_and_a_refusal_is_told(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        server.faults.queue_full = 1
        await malee.client.send(dialog, "patience")
        assert server.texts(dialog) == ["patience"]
        with pytest.raises(ChatError) as refused:
            await malee.client.send(str(uuid.uuid4()), "nowhere")
        assert refused.value.reason == "DIALOG_NOT_FOUND"


async def test_the_same_client_id_is_the_same_message(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        first = await malee.client.send(dialog, "once", client_message_id="mine-1")
        again = await malee.client.send(dialog, "once", client_message_id="mine-1")
        assert (first.id, first.seq) == (again.id, again.seq)


async def test_another_client_goes_on_where_one_stopped(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    siti = server.accounts["siti"][0]
    async with device(server, "malee") as malee:
        server.say(dialog, siti, "one")
        await malee.until_told(["one"])
    # What was worked through was acknowledged when it closed.
    server.say(dialog, siti, "two")
    async with device(server, "malee") as again:
        await again.until_told(["two"])
    position = again.client.position
    server.say(dialog, siti, "three")
    async with device(server, "malee", resume=position, device_id="") as third:
        await third.until_told(["three"])


async def test_positions_are_acknowledged_by_number_and_by_time(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    malee_id, siti = (server.accounts[name][0] for name in ("malee", "siti"))

    async def acknowledged() -> str:
        return server.acknowledged.get((malee_id, "phone"), "")

    async with device(server, "malee", ack_events=3, ack_seconds=3600.0) as malee:
        for number in range(4):
            server.say(dialog, siti, str(number))
        await malee.until_told(["0", "1", "2", "3"])
        await until(lambda: done(acknowledged), True, within=20)
    server.acknowledged.clear()
    async with device(server, "malee", ack_events=1000, ack_seconds=0.02) as malee:
        server.say(dialog, siti, "by time")
        await until(lambda: done(acknowledged), True, within=20)


async def done(ask: object) -> bool:
    return bool(await ask())  # type: ignore[operator]


@pytest.mark.parametrize(("seq", "expected"), [(9, 3), (2, 3)])
async def test_a_gap_or_a_repeat_is_an_error(server: ChatServer, seq: int, expected: int) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        server.say(dialog, server.accounts["siti"][0], "one")
        await malee.until_told(["one"])
        wrong = frame_pb2.Event(dialog_id=dialog, seq=seq)
        server.streams[0].frames.put_nowait(frame_pb2.Frame(events=[wrong]))

        async def failures() -> list[str]:
            return [str(one) for one in malee.failed]

        await until(failures, [str(OrderBroken(dialog, expected, seq))], within=20)


async def test_events_that_are_missing_before_live_are_an_error(server: ChatServer) -> None:
    dialog = await a_pair(server, "malee", "siti")
    async with device(server, "malee") as malee:
        head = frame_pb2.Head(dialog_id=dialog, last_seq=4)
        server.streams[0].frames.put_nowait(frame_pb2.Frame(heads=[head]))
        server.streams[0].frames.put_nowait(frame_pb2.Frame(live=True))

        async def failures() -> list[str]:
            return [str(one) for one in malee.failed]

        await until(failures, [str(OrderBroken(dialog, 2, 5))], within=20)


async def test_silence_counts_as_a_lost_connection(server: ChatServer) -> None:
    await a_pair(server, "malee", "siti")
    timing = Timing(silence=0.2, first_wait=0.01, longest_wait=0.05)
    async with device(server, "malee", timing=timing) as malee:
        await malee.until_live(2)
        assert "SILENCE" in {one.reason for one in malee.told if isinstance(one, Lost)}


async def test_a_wrong_password_is_told(server: ChatServer) -> None:
    await a_pair(server, "malee")
    session = Session(server.address, None, "malee", "wrong")
    with pytest.raises(SignedOut) as refused:
        await session.token()
    assert refused.value.reason == "INVALID_CREDENTIALS"
    await session.close()
