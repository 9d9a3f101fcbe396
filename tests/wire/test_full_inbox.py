"""What lies behind a full inbox: bounded, found as far as is read ahead, and not the peer's fault."""

from __future__ import annotations

import random
import zlib
from functools import partial

import pytest
import raw_client
import trio
from client_frames import encode_masked
from trio.testing import wait_all_tasks_blocked
from wire_ends import Ends, open_ends

import trio_ws_app as ws
from trio_ws_app.protocol.frames import Opcode
from trio_ws_app.testing import connected_pair

virtual_time = pytest.mark.usefixtures("autojump_clock")

LIMIT = 10_000
MASK = b"\x01\x02\x03\x04"
EMPTY = encode_masked(Opcode.TEXT, b"", MASK)
SMALL = encode_masked(Opcode.BINARY, b"x" * 95, MASK)
CLOSE = encode_masked(Opcode.CLOSE, b"\x0f\xa1bye", MASK)
HALF = encode_masked(Opcode.BINARY, bytes(5000), MASK)[:2000]


def fill(ends: Ends, frame: bytes = SMALL) -> int:
    """Give the connection messages until it reads no more; how many."""
    count = 0
    while ends.transport.watched[0]:
        ends.arrive(frame)
        count += 1
    return count


@pytest.mark.parametrize("frame", [EMPTY, SMALL], ids=["empty", "small"])
async def test_an_inbox_is_bounded_whatever_the_size_of_messages(frame: bytes) -> None:
    """An overhead is counted for each; beyond the inbox as many bytes are kept as they came."""
    async with open_ends(max_inbox_bytes=LIMIT) as ends:
        total = fill(ends, frame)
        assert ends.connection.inbox.count() == -(-LIMIT // (80 + len(frame) - 6))
        assert len(frame) * (total - ends.connection.inbox.count()) < LIMIT + len(frame)
        received = 0
        while ends.connection.inbox.count():
            await ends.connection.receive()
            received += 1
        assert received == total
        assert ends.transport.watched[0]


async def test_a_compressed_bomb_is_not_inflated_behind_a_full_inbox() -> None:
    """What waits is kept compressed: a thousand messages that would be 100 kB each stay small."""
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(bytes(100_000)) + deflate.flush(zlib.Z_SYNC_FLUSH)
    frame = encode_masked(Opcode.BINARY, packed.removesuffix(b"\0\0\xff\xff"), MASK, rsv1=True)
    async with open_ends(compression=True, max_inbox_bytes=250_000) as ends:
        ends.say(frame * 1000)
        assert ends.connection.inbox.count() == 3
        for _ in range(1000):
            assert ends.connection.inbox.count() <= 3
            assert len(await ends.connection.receive()) == 100_000
        assert ends.connection.inbox.count() == 0


@virtual_time
async def test_a_close_behind_a_full_inbox_ends_the_producers_at_once() -> None:
    """It is found by reading ahead; the messages before it can still be received (G9)."""
    async with open_ends(max_inbox_bytes=LIMIT) as ends, trio.open_nursery() as nursery:
        ends.arrive(SMALL * 100 + CLOSE)
        assert ends.connection.inbox.count() < 100
        with trio.fail_after(0.1):
            await ws.produce(ends.connection, trio.sleep_forever)
        assert ends.connection.close_reason == ws.CloseReason(4001, "bye")
        assert [message async for message in ends.connection] == [b"x" * 95] * 100
        nursery.cancel_scope.cancel()


async def test_pings_behind_a_full_inbox_are_answered() -> None:
    """And a pong there is seen, so that a peer is not given up while its messages wait."""
    async with open_ends(max_inbox_bytes=LIMIT) as ends, trio.open_nursery() as nursery:
        nursery.start_soon(ends.connection.ping)
        await wait_all_tasks_blocked()
        ((kind, payload),) = ends.seen()
        assert kind == "ping"
        ends.arrive(SMALL * 60)
        ends.arrive(encode_masked(Opcode.PING, b"there?", MASK) + encode_masked(Opcode.PONG, payload, MASK))
        assert ends.seen() == [("pong", b"there?")]
    assert ends.connection.latency is not None


@pytest.mark.parametrize("how", ["fin", "rst"])
async def test_the_end_of_the_stream_behind_a_full_inbox_ends_the_producers(how: str) -> None:
    """Also behind all that is read ahead, on a socket; every message before a FIN is received (G9)."""
    settings = ws.Settings(max_inbox_bytes=LIMIT, max_message_size=None)
    ended, full = trio.Event(), trio.Event()
    received: list[int] = []

    async def handler(connection: ws.Connection) -> None:
        full.set()
        with trio.fail_after(5):
            await ws.produce(connection, trio.sleep_forever)
        ended.set()
        received.extend([len(message) async for message in connection])

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ws.serve, handler, 0, settings=settings))
        sock = await raw_client.open_websocket(server.port)
        await full.wait()
        data = raw_client.client_frame(2, bytes(994)) * 100
        with sock:
            while data:
                data = data[await sock.send(data) :]
            if how == "fin":
                sock.shutdown(trio.socket.SHUT_WR)
            else:
                raw_client.reset(sock)
            with trio.fail_after(2):
                await ended.wait()
            await server.drain()
        nursery.cancel_scope.cancel()
    assert received == [994] * len(received)
    if how == "fin":
        assert len(received) == 100


@virtual_time
async def test_a_peer_that_is_not_read_is_judged_by_its_acknowledgements() -> None:
    """No pong can be seen behind a full inbox and read-ahead, so TCP has a timeout of its own."""
    async with open_ends(max_inbox_bytes=LIMIT, ping_interval=3, ping_timeout=2) as ends:
        fill(ends)
        await trio.sleep(100)
        assert ends.connection.close_reason is None
        assert ends.transport.limits == [2]
        assert [kind for kind, _ in ends.seen()] == ["ping"]


@virtual_time
async def test_a_message_that_never_ends_is_given_up() -> None:
    """Its peer is told, with 1008, once it has taken longer than ``message_timeout``."""
    settings = ws.Settings(message_timeout=60, ping_interval=None)
    async with connected_pair(settings=settings) as (connection, peer), trio.open_nursery() as nursery:
        began = trio.current_time()

        async def trickle() -> None:
            for byte in HALF:
                await peer.send_raw(bytes([byte]))
                await trio.sleep(0.5)

        nursery.start_soon(trickle)
        await connection.wait_closed()
        assert trio.current_time() - began == pytest.approx(60, abs=1)
        await peer.wait_ended()
        assert peer.close_reason == ws.CloseReason(1008, "a message took too long")
        nursery.cancel_scope.cancel()


@virtual_time
async def test_messages_that_end_in_time_have_each_their_own_time() -> None:
    """However long the connection lasts, and whatever fragments and pings they come in."""
    settings = ws.Settings(message_timeout=60, ping_interval=None)
    async with connected_pair(settings=settings) as (connection, peer):
        for _ in range(10):
            whole = encode_masked(Opcode.TEXT, b"ab", MASK, fin=False)
            whole += encode_masked(Opcode.CONTINUATION, b"c", MASK)
            for piece in (whole[:3], whole[3:9], whole[9:]):
                await peer.send_raw(piece)
                await trio.sleep(25)
            assert await connection.receive() == "abc"
        assert connection.close_reason is None


@virtual_time
async def test_a_peer_is_not_blamed_for_a_message_that_we_do_not_read() -> None:
    """Its time counts while the inbox has room; when that is so again it begins anew."""
    settings = ws.Settings(message_timeout=60, ping_interval=None, max_inbox_bytes=LIMIT)
    async with connected_pair(settings=settings, capacity=1 << 20) as (connection, peer):
        await peer.send_raw(SMALL * 500 + HALF)
        await trio.sleep(300)
        for _ in range(500):
            assert await connection.receive() == b"x" * 95
        await trio.sleep(59)
        assert connection.close_reason is None
        await trio.sleep(2)
        assert connection.close_reason is not None
        assert connection.close_reason.code == 1008


@virtual_time
async def test_a_second_receiver_of_a_full_inbox_is_refused() -> None:
    """Also while the first has messages to take and only lets others run (Misuse is BusyResourceError)."""
    refused: list[int] = []
    taken: list[ws.Message] = []

    async def receive(connection: ws.Connection) -> None:
        try:
            for _ in range(200):
                taken.append(await connection.receive())
        except trio.BusyResourceError:
            refused.append(len(taken))

    async with connected_pair() as (connection, peer):
        await peer.send_raw(SMALL * 400)
        await wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receive, connection)
            nursery.start_soon(receive, connection)
        assert len(refused) == 1
        assert len(taken) == 200


@virtual_time
async def test_no_task_steals_from_a_plain_consumer() -> None:
    """Also while it is not called because the peer takes no answers."""
    async with connected_pair(capacity=1000) as (connection, peer), trio.open_nursery() as nursery:
        peer.stream.stall()
        nursery.start_soon(ws.consume, connection, lambda _: connection.send_nowait(bytes(40_000)))
        await wait_all_tasks_blocked()
        await peer.send_raw(SMALL * 8)
        await wait_all_tasks_blocked()
        with pytest.raises(trio.BusyResourceError):
            await connection.receive()
        nursery.cancel_scope.cancel()


@virtual_time
@pytest.mark.parametrize("seed", range(3))
async def test_messages_come_in_order_however_they_are_read_ahead(seed: int) -> None:
    """Each once, of any size, with any pauses of the receiver."""
    chance = random.Random(seed)
    sizes = [chance.choice((0, 1, 100, 3000, 20_000)) for _ in range(200)]
    async with connected_pair(settings=ws.Settings(max_inbox_bytes=LIMIT)) as (connection, peer):

        async def send_all() -> None:
            for size in sizes:
                await peer.send(bytes(size))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send_all)
            for size in sizes:
                if chance.random() < 0.3:
                    await trio.sleep(1)
                assert await connection.receive() == bytes(size)
