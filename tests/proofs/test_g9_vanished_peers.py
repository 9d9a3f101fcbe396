"""G9: a vanished peer ends what waits for it, and nothing that was received is thrown away."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial

import pytest
import raw_client
import trio

import trio_ws_app as ws
from trio_ws_app.testing import Peer, connected_pair, serve_in_memory

virtual_time = pytest.mark.usefixtures("autojump_clock")


async def close(peer: Peer) -> None:
    await peer.send_close()


async def end_the_stream(peer: Peer) -> None:
    await peer.stream.send_eof()


async def reset(peer: Peer) -> None:
    peer.stream.abort()


@virtual_time
@pytest.mark.parametrize("end", [close, end_the_stream, reset])
async def test_an_idle_producer_is_cancelled_at_once(end: Callable[[Peer], Awaitable[None]]) -> None:
    """A producer that waits for something else is cancelled within 100 ms of Close, FIN or RST."""
    async with connected_pair() as (connection, peer), trio.open_nursery() as nursery:
        nursery.start_soon(end, peer)
        began = trio.current_time()
        await ws.produce(connection, trio.sleep_forever)
        assert trio.current_time() - began <= 0.1


@pytest.mark.parametrize("end", ["close", "fin", "rst"])
async def test_an_idle_producer_is_cancelled_at_once_on_a_socket(end: str) -> None:
    """The same over TCP, in real time."""
    ended: list[float] = []

    async def handler(connection: ws.Connection) -> None:
        await ws.produce(connection, trio.sleep_forever)
        ended.append(trio.current_time())

    async with trio.open_nursery() as nursery:
        server = await nursery.start(partial(ws.serve, handler, 0))
        sock = await raw_client.open_websocket(server.port)
        began = trio.current_time()
        if end == "close":
            await sock.send(raw_client.client_frame(8, b"\x03\xe8"))
        elif end == "fin":
            sock.shutdown(trio.socket.SHUT_WR)
        else:
            raw_client.reset(sock)
        with trio.fail_after(10):
            while not ended:  # noqa: ASYNC110
                await trio.sleep(0.001)
        sock.close()
        nursery.cancel_scope.cancel()
    assert ended[0] - began <= 0.1


@virtual_time
async def test_keepalive_ends_a_producer_whose_peer_says_nothing() -> None:
    """Without a packet from the network, ping_interval + ping_timeout is the limit."""
    settings = ws.Settings(ping_interval=3, ping_timeout=2)
    async with connected_pair(settings=settings) as (connection, peer):
        peer.stream.vanish()
        began = trio.current_time()
        await ws.produce(connection, trio.sleep_forever)
        assert trio.current_time() - began == 5


@virtual_time
async def test_keepalive_works_while_a_send_is_blocked() -> None:
    """A peer that takes nothing and says nothing is given up although no ping gets through."""
    settings = ws.Settings(ping_interval=3, ping_timeout=2, send_timeout=None)
    async with connected_pair(settings=settings, capacity=100) as (connection, peer):
        peer.stream.vanish()
        began = trio.current_time()

        async def flood() -> None:
            while True:
                await connection.send(bytes(10_000))

        with pytest.raises(ws.ConnectionClosed):
            await flood()
        assert trio.current_time() - began == 5


@virtual_time
async def test_any_traffic_counts_as_life() -> None:
    """A peer that sends messages is not pinged; one that answers pings is not given up."""
    settings = ws.Settings(ping_interval=3, ping_timeout=2)
    async with connected_pair(settings=settings) as (connection, peer):
        for _ in range(10):
            await trio.sleep(2)
            await peer.send("alive")
        assert peer.pings == 0
        await trio.sleep(100)
        assert peer.pings > 10
        assert connection.close_reason is None


@virtual_time
@pytest.mark.parametrize("end", [close, end_the_stream])
async def test_a_consumer_finishes_what_arrived_before_the_end(
    end: Callable[[Peer], Awaitable[None]],
) -> None:
    """A slow consumer gets all messages that came before the Close; the producer is gone at once."""
    consumed: list[ws.Message] = []
    producer_ended: list[float] = []

    async def consume(message: ws.Message) -> None:
        await trio.sleep(1)
        consumed.append(message)

    async def produce() -> ws.Message:
        try:
            await trio.sleep_forever()
        finally:
            producer_ended.append(trio.current_time())
        return ""

    async with connected_pair() as (connection, peer):
        for number in range(5):
            await peer.send(str(number))
        await end(peer)
        began = trio.current_time()
        ended = await ws.duplex(connection, consume=consume, produce=produce)
        assert consumed == ["0", "1", "2", "3", "4"]
        assert ended.first is ws.Side.CONSUMER
        assert producer_ended == [pytest.approx(began, abs=0.1)]


@virtual_time
@pytest.mark.parametrize("gives_way", [False, True])
async def test_a_plain_consumer_finishes_what_arrived_before_the_end(gives_way: bool) -> None:
    """It is not called while the peer takes no answers; the producer is gone at once, however it takes it."""
    happened: list[object] = []

    async def produce() -> AsyncIterator[ws.Message]:
        try:
            await trio.sleep_forever()
        except trio.Cancelled:
            happened.append("the producer is cancelled")
            if not gives_way:
                raise
        for message in ():
            yield message

    async with connected_pair(capacity=1000) as (connection, peer), trio.open_nursery() as nursery:

        async def talk() -> None:
            await peer.send("one")
            await peer.send("two")
            await peer.send_close()
            await trio.sleep(1)
            peer.stream.resume()

        peer.stream.stall()
        connection.send_nowait(bytes(100_000))  # what the stream takes
        connection.send_nowait(bytes(100_000))  # what waits
        nursery.start_soon(talk)
        ended = await ws.duplex(connection, consume=happened.append, produce=produce())
        assert happened == ["the producer is cancelled", "one", "two"]
        assert ended.first is ws.Side.CONSUMER


@virtual_time
async def test_a_bare_handler_learns_by_waiting_for_the_end() -> None:
    """wait_closed returns at once when the peer goes, while messages remain to be received."""
    async with connected_pair() as (connection, peer):
        await peer.send("last words")
        await peer.send_close()
        with trio.fail_after(0.1):
            await connection.wait_closed()
        assert await connection.receive() == "last words"
        with pytest.raises(ws.ConnectionClosed):
            await connection.receive()


@virtual_time
@pytest.mark.parametrize("cancel_on_disconnect", [False, True])
async def test_a_handler_can_ask_to_be_cancelled(cancel_on_disconnect: bool) -> None:
    """With cancel_on_disconnect a handler that waits for something else is cancelled; without, it is not."""
    cancelled: list[float] = []

    async def handler(_connection: ws.Connection) -> None:
        try:
            await trio.sleep(50)
        except trio.Cancelled:
            cancelled.append(trio.current_time())
            raise

    async with serve_in_memory(handler, cancel_on_disconnect=cancel_on_disconnect) as memory:
        peer = await memory.connect()
        began = trio.current_time()
        await peer.send_close()
        await trio.sleep(20)
        assert cancelled == ([pytest.approx(began, abs=0.1)] if cancel_on_disconnect else [])
        await trio.sleep(50)
